"""Roots and homes of earlier releases, opened by this one: nothing is lost, nothing starts anew."""
