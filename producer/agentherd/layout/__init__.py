"""What agentherd keeps in Redis: keys, scripts, and how a record is written and read."""
