"""Tests of what `automation` decides without Dagster: which hours are asked for."""
