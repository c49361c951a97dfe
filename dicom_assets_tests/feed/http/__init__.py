"""Tests of `feed.http`."""
