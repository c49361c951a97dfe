"""Tests of `defs.checks`."""
