"""Tests of `emulator` against the behaviour of the service."""
