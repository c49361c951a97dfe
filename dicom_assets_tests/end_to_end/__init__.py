"""Tests over real sockets and real files. A package, so that `dagster` in here shadows nothing."""
