"""Each fault of a whole answer, as a client gets it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from dicom_assets_tests.adversary import (
    Bomb,
    Clock,
    ContentType,
    CutJson,
    Html,
    Latency,
    NoContent,
    Status,
    Trailing,
    Verbatim,
    WrongShape,
    invalid_parameter,
)
from dicom_assets_tests.support.dicom_files import header, many, raw, sequences

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Faults

FEED = "/v2/changefeed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 424, 429, 500, 502, 503, 504, 599])
def test_any_status(client: httpx.Client, faults: Faults, status: int) -> None:
    """The status is answered as it is, without Retry-After unless there is one."""
    faults.replace(Status(status, body="no"))
    answer = client.get(FEED)
    assert (answer.status_code, answer.text) == (status, "no")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("text", ["0", "120", "1000000000", "-1", "1.5", "soon"])
def test_retry_after_is_sent_as_it_is(client: httpx.Client, faults: Faults, text: str) -> None:
    """Seconds, and what only looks like them."""
    faults.replace(Status(429, retry_after=text))
    assert client.get(FEED).headers["retry-after"] == text


def test_retry_after_may_be_a_date(client: httpx.Client, faults: Faults) -> None:
    """A date so many seconds from the answer's own."""
    faults.replace(Status(503, retry_after_date=90))
    answer = client.get(FEED)
    served, again = (parsedate_to_datetime(answer.headers[n]) for n in ("date", "retry-after"))
    assert again - served == timedelta(seconds=90)


def test_a_parameter_is_refused_in_the_services_words(client: httpx.Client, faults: Faults) -> None:
    """The only 400 that surely stays."""
    faults.replace(invalid_parameter("Offset"))
    answer = client.get(FEED)
    assert answer.status_code == 400
    assert answer.text.startswith("The query parameter 'Offset' is invalid. ")
    faults.clear()
    assert client.get(f"{FEED}?offset=-1").text.startswith("The query parameter 'Offset' is inv")


def test_latency(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """The answer is right, and comes later."""
    many(archive, 1)
    faults.replace(Latency(0.2))
    start = time.monotonic()
    assert sequences(client) == [1]
    assert time.monotonic() - start >= 0.2


def test_cut_json(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """A part of the body with the length of the part: HTTP sees nothing wrong."""
    many(archive, 2)
    whole = client.get(FEED).content
    for at, expected in ((None, len(whole) // 2), (7, 7), (10**6, len(whole) - 1)):
        faults.replace(CutJson(at))
        answer = client.get(FEED)
        assert (answer.status_code, answer.content) == (200, whole[:expected])
        assert answer.headers["content-length"] == str(expected)


def test_trailing_text(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """The JSON is whole, and is not the end."""
    many(archive, 1)
    whole = client.get(FEED).text
    faults.replace(Trailing("<!-- -->"))
    assert client.get(FEED).text == whole + "<!-- -->"


def test_html(client: httpx.Client, faults: Faults) -> None:
    """A page for people, with 200."""
    faults.replace(Html())
    answer = client.get(FEED)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "sign in" in answer.text


@pytest.mark.parametrize("value", ["text/plain", "application/xml", "", None])
def test_content_type(
    client: httpx.Client, archive: Archive, faults: Faults, value: str | None
) -> None:
    """The right body under a wrong name, or none."""
    many(archive, 1)
    faults.replace(ContentType(value))
    answer = client.get(FEED)
    assert answer.headers.get("content-type") == value
    assert [entry["sequence"] for entry in answer.json()] == [1]


def test_no_content(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """204 where a page should be."""
    many(archive, 1)
    faults.replace(NoContent())
    answer = client.get(FEED)
    assert (answer.status_code, answer.content) == (204, b"")


def test_wrong_shape(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """An object for an array, and an array for an object; nothing stays nothing."""
    faults.replace(WrongShape())
    assert client.get(f"{FEED}/latest").status_code == 204
    archive.store(header())
    assert [entry["sequence"] for entry in client.get(FEED).json()["value"]] == [1]
    assert [entry["sequence"] for entry in client.get(f"{FEED}/latest").json()] == [1]


def test_verbatim(client: httpx.Client, faults: Faults) -> None:
    """Whatever bytes."""
    faults.replace(Verbatim(b"\xff\x00null"))
    assert client.get(FEED).content == b"\xff\x00null"


def test_bomb(client: httpx.Client, url: str, faults: Faults) -> None:
    """A body a thousandth of what it becomes, and becomes an empty page."""
    faults.replace(Bomb(3_000_000))
    assert len(raw(url, FEED).body) < 6_000
    answer = client.get(FEED)
    assert len(answer.content) == 3_000_002
    assert answer.json() == []


@pytest.mark.parametrize("seconds", [-900, 900])
def test_clock(client: httpx.Client, archive: Archive, faults: Faults, seconds: int) -> None:
    """One Date header, and a wrong one."""
    many(archive, 1)
    faults.replace(Clock(seconds))
    answer = client.get(FEED)
    (date,) = answer.headers.get_list("date")
    off = parsedate_to_datetime(date) - datetime.now(UTC)
    assert abs(off - timedelta(seconds=seconds)) < timedelta(seconds=10)
    assert len(answer.json()) == 1
