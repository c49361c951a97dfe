"""Tests of the project itself: imports, shape of the code, configuration, wheel, lock, targets."""
