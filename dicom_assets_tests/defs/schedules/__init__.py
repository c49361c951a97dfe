"""Tests of `defs.schedules`."""
