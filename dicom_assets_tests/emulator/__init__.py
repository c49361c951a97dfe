"""Tests of `emulator`: does it behave as the service does?"""
