"""Tests of `tables.questions`."""
