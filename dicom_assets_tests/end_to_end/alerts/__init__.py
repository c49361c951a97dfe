"""Tests of the channels, against sinks on this machine."""
