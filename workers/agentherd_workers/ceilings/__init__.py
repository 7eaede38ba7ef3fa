"""What one job may take of memory, processes and disk, and what it took."""
