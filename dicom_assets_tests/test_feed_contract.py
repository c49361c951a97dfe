"""The words of a rejection decide who has to act."""

import pytest

from dicom_assets.feed.decode import _REASONS
from dicom_assets.feed.http.answers import HEADER_UNREADABLE, MALFORMED, TOO_LARGE
from dicom_assets.feed_contract import can_heal


@pytest.mark.parametrize(
    "reason", [HEADER_UNREADABLE, MALFORMED.reason, TOO_LARGE.reason, "header has lower-case tags"]
)
def test_a_header_can_heal(reason: str) -> None:
    """The service may serve a usable one at the next attempt."""
    assert can_heal(reason)


@pytest.mark.parametrize("reason", [*_REASONS.values(), "unknown action", "entry is not an object"])
def test_an_entry_cannot(reason: str) -> None:
    """Only the service's operator can correct it."""
    assert not can_heal(reason)
