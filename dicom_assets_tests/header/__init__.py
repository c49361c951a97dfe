"""Tests of `header`, against real files among others."""
