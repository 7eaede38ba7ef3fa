"""Real parts for demos and tests: a Redis, a simulated model, a worker; all on loopback."""
