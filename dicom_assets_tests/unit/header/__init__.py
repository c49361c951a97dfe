"""Tests of `header`: values, and which of them become columns."""
