"""The marks of JSON: its brackets, commas and quotes, counted in C before objects are made of it.

Objects and loops in Python cost as much as there are marks, however many bytes are between them.
"""

from typing import Final

# So many are split, or become objects, within a second and 150 MB. 200 headers of the usual size,
# 2.6 kB, have 200,000.
MOST_MARKS: Final = 2_000_000
_OTHERS: Final = bytes(set(range(256)) - set(b'[]{},"'))


def marks(text: bytes) -> int:
    """Return the number of marks, those in strings included."""
    return len(text.translate(None, _OTHERS))


def has_too_many(text: bytes, most: int = MOST_MARKS) -> bool:
    """True for JSON of more than `most` marks."""
    return len(text) > most and marks(text) > most
