"""What the tests share: servers, fixtures, waiting, leak checks."""
