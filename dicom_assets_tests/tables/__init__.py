"""Tests of `tables`."""
