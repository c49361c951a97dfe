"""Helpers of the tests, by noun."""
