"""Tests of `tables.upkeep`."""
