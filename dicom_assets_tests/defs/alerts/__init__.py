"""Tests of `defs.alerts`."""
