"""Tests of `commands`, as a person calls them."""
