"""The meaning of each answer: the retry matrix, row by row."""

import socket
import ssl

import httpx
import pytest

from dicom_assets.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dicom_assets.feed.http import answers
from dicom_assets.feed.http.answers import (
    Meaning,
    RequestFailure,
    check_status,
    check_type,
    failure_of,
)

CANARY = "PHI-0d2b"


def failure(status: int, content: bytes = CANARY.encode(), **headers: str) -> RequestFailure:
    """Return what an answer is, which is no success."""
    with pytest.raises(RequestFailure) as raised:
        check_status(httpx.Response(status, content=content, headers=headers), 3600.0)
    return raised.value


@pytest.mark.parametrize("status", [200, 204])
def test_success_is_no_failure(status: int) -> None:
    """The body is checked elsewhere."""
    check_status(httpx.Response(status), 3600.0)


@pytest.mark.parametrize(
    ("status", "error", "may_pass", "throttles", "may_be_header"),
    [
        (201, ServiceAnswerError, True, False, False),
        (206, ServiceAnswerError, True, False, False),
        (301, ServiceRefusedError, False, False, False),
        (304, ServiceRefusedError, False, False, False),
        (400, ServiceUnavailableError, True, False, True),
        (402, ServiceRefusedError, False, False, False),
        (403, ServiceRefusedError, False, False, False),
        (404, ServiceRefusedError, False, False, False),
        (407, ServiceRefusedError, False, False, False),
        (408, ServiceUnavailableError, True, True, False),
        (409, ServiceRefusedError, False, False, False),
        (424, ServiceRefusedError, False, False, False),
        (425, ServiceUnavailableError, True, True, False),
        (429, ServiceUnavailableError, True, True, False),
        (500, ServiceUnavailableError, True, True, True),
        (502, ServiceUnavailableError, True, True, True),
        (503, ServiceUnavailableError, True, True, True),
        (504, ServiceUnavailableError, True, True, True),
        (599, ServiceUnavailableError, True, True, True),
    ],
)
def test_a_status_means(
    status: int, error: type[ServiceError], may_pass: bool, throttles: bool, may_be_header: bool
) -> None:
    """It may pass or not, come from load or not, and be caused by a header or not."""
    meaning = failure(status).meaning
    told = (meaning.error, meaning.may_pass, meaning.throttles, meaning.may_be_header)
    assert told == (error, may_pass, throttles, may_be_header)
    assert meaning.remedy


def test_a_400_about_a_parameter_is_ours() -> None:
    """The others were cancelled inside the service."""
    assert failure(400, b"The query parameter 'Limit' is invalid.").meaning is answers.PARAMETER
    assert failure(400, b"A task was canceled.").meaning is answers.CANCELLED
    assert failure(400, b"").meaning is answers.CANCELLED


@pytest.mark.parametrize("status", [302, 403, 424, 500, 299, 499])
def test_what_is_told_of_an_answer_is_its_status(status: int) -> None:
    """Neither its body nor its own phrase."""
    told = failure(status)
    assert str(status) in str(told)
    assert CANARY not in str(told) + told.meaning.remedy


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        ("3600", 3600.0),
        ("3601", None),
        ("1000000000", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Mon, 05 Jan 2026 12:00:30 GMT", 30.0),
        ("Mon, 05 Jan 2026 11:59:59 GMT", None),
        ("Mon, 05 Jan 2099 12:00:00 GMT", None),
        ("Mon, 99 Jan 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """It is seconds, or a date by the service's own clock. An absurd one is ignored."""
    headers = [(b"Date", b"Mon, 05 Jan 2026 12:00:00 GMT"), (b"Retry-After", text.encode())]
    assert answers.retry_after_seconds(httpx.Response(429, headers=headers), 3600.0) == seconds


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/problem+json", ""])
def test_a_body_of_another_type_is_somebody_elses(kind: str) -> None:
    """A proxy's, or that of a page to sign in."""
    with pytest.raises(RequestFailure, match="content type is not JSON") as raised:
        check_type(httpx.Response(200, headers={"Content-Type": kind}), CANARY.encode())
    assert raised.value.meaning is answers.FOREIGN


@pytest.mark.parametrize("kind", ["application/json", "Application/DICOM+JSON; charset=utf-8"])
def test_json_is_taken(kind: str) -> None:
    """By either of its names."""
    check_type(httpx.Response(200, headers={"Content-Type": kind}), b"[]")


def caused_by(cause: Exception) -> httpx.ConnectError:
    """Return a failure to connect as httpx raises it."""
    error = httpx.ConnectError(CANARY)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "meaning", "text"),
    [
        (caused_by(socket.gaierror(-2, CANARY)), answers.UNREACHABLE, "name cannot be resolved"),
        (caused_by(ssl.SSLCertVerificationError(CANARY)), answers.UNTRUSTED, "certificate"),
        (caused_by(OSError(CANARY)), answers.UNREACHABLE, "could not be reached"),
        (httpx.ConnectTimeout(CANARY), answers.UNREACHABLE, "could not be reached"),
        (httpx.ReadTimeout(CANARY), answers.TIMEOUT, "in time"),
        (httpx.PoolTimeout(CANARY), answers.TIMEOUT, "in time"),
        (httpx.ProxyError(CANARY), answers.STATUSES[407], "proxy"),
        (httpx.ReadError(CANARY), answers.BROKEN, "broke off its answer (ReadError)"),
        (httpx.RemoteProtocolError(CANARY), answers.BROKEN, "broke off"),
    ],
)
def test_a_request_without_an_answer(error: Exception, meaning: Meaning, text: str) -> None:
    """A name, a certificate, a network and a proxy have different remedies."""
    told = failure_of(error)
    assert told.meaning is meaning
    assert text in str(told)
    assert CANARY not in str(told)
