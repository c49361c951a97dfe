"""Tests of `feed` without a network: bytes to rows, and which pages to ask for."""
