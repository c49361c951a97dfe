"""Code locations like ours, each with a twist, for tests that start processes."""
