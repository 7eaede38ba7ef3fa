"""The contract between producers and workers: pure data and rules, no I/O."""
