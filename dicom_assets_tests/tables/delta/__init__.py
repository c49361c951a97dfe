"""Tests of `tables.delta`."""
