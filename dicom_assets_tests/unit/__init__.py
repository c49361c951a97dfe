"""Tests of one module each: no Dagster, no network."""
