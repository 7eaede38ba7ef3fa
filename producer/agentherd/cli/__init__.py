"""The command line: `agentherd`. Needs the extra `cli` (click and rich)."""
