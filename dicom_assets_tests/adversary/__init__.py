"""Tests of the faults that the emulator can be given."""
