"""Tests of `feed`: rows in memory over sockets, as hostile as asked."""
