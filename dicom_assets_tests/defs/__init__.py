"""Tests of `defs`: the project through Dagster, on a service over sockets."""
