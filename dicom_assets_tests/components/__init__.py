"""Tests that need a browser or a foreign service; `make test-components` installs those."""
