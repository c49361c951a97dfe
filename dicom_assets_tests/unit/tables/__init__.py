"""Tests of the tables: what the rule asks for, what is committed, and what a run comes to."""
