"""`agentherd demo`: five real agents on a fleet of its own, and a look at what they left."""
