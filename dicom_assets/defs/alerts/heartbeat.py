"""The dead man's switch: a monitor elsewhere receives a request as long as everything ticks.

When nothing is left that could send an alert, the monitor misses the requests, and alerts people.
"""

import urllib.request
from http.client import HTTPException

_TIMEOUT_SECONDS = 10


def beat(url: str) -> bool:
    """Request the monitor (GET), and return True when it accepts. The address is a secret."""
    try:
        # http and https only: the settings refuse other addresses.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS):  # noqa: S310 - as said
            return True
    except (OSError, HTTPException):
        return False
