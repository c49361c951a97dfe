"""What tests use, by noun."""
