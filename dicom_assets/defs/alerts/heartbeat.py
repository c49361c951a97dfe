"""The dead man's switch: a monitor elsewhere is asked as long as everything ticks.

When nothing is left that could tell somebody, the monitor misses being asked, and does.
"""

import urllib.request
from http.client import HTTPException

_TIMEOUT_SECONDS = 10


def beat(url: str) -> bool:
    """The monitor was asked (GET); returns whether it took that. The address is a secret."""
    try:
        # http and https only: the settings refuse other addresses.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS):  # noqa: S310 - as said
            return True
    except (OSError, HTTPException):
        return False
