"""Commands that this distribution adds to `agentherd`."""
