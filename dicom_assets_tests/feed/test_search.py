"""The search: what is asked, which answers are taken for what, and where a list ends."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dicom_assets.errors import ServiceAnswerError, ServiceRefusedError, ServiceUnavailableError
from dicom_assets.feed.search import PAGE_STUDIES, Related, StudyCounts
from dicom_assets_tests.support.feed_service import QUICK
from dicom_assets_tests.support.feeds import search_of

Answer = Callable[[httpx.Request], httpx.Response]
JSON = {"Content-Type": "application/dicom+json"}
FIELDS = "00201208,00201206"


def study(uid: object, instances: object = 1, series: object = 1) -> dict[str, Any]:
    """A study as a search answers it. A count that is None is left out."""
    counts = {"00201208": instances, "00201206": series}
    said = {tag: {"vr": "IS", "Value": [n]} for tag, n in counts.items() if n is not None}
    return {"0020000D": {"vr": "UI", "Value": [uid]}, **said}


def answered(*studies: object, status: int = 200) -> httpx.Response:
    """An answer with these studies, 204 without any."""
    if not studies and status == 200:
        return httpx.Response(204)
    return httpx.Response(status, headers=JSON, content=json.dumps(studies).encode())


class Search(httpx.BaseTransport):
    """A service that gives `answer`, and records its requests."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer: Answer = lambda _: answered()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer without a socket."""
        self.asked.append(request)
        return self.answer(request)


@pytest.fixture
def search() -> Search:
    """A service that has nothing."""
    return Search()


@pytest.fixture
def counts(search: Search) -> Iterator[StudyCounts]:
    """The search of that service, without timeouts."""
    with search_of(
        "http://127.0.0.1:1/dicom", retry_seconds=0, transport=search, timeouts=QUICK
    ) as counts:
        yield counts


def listing(*uids: str) -> Answer:
    """A service that has these studies, and pages them."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset, limit = (int(request.url.params[name]) for name in ("offset", "limit"))
        return answered(*(study(uid) for uid in uids[offset : offset + limit]))

    return answer


def test_one_study_is_asked_for_by_its_uid(search: Search, counts: StudyCounts) -> None:
    """With both counts, as DICOM JSON, under the service's own path."""
    search.answer = lambda _: answered(study("1.2", 5, 2))
    assert counts.study(None, "1.2") == Related(5, 2)
    (request,) = search.asked
    assert request.headers["Accept"] == "application/dicom+json"
    assert request.url.path == "/dicom/v2/studies"
    assert dict(request.url.params) == {
        "StudyInstanceUID": "1.2",
        "includefield": FIELDS,
        "limit": "2",
    }


def test_a_data_partition_has_a_path_of_its_own(search: Search, counts: StudyCounts) -> None:
    """Without one the path has none, because a service without them refuses it."""
    counts.study("clinic-b", "1.2")
    counts.holders("clinic-b", "series", "1.2.3")
    paths = [request.url.path for request in search.asked]
    assert paths == [
        "/dicom/v2/partitions/clinic-b/studies",
        "/dicom/v2/partitions/clinic-b/series",
    ]


def test_nothing_is_no_study(counts: StudyCounts) -> None:
    """204 is the answer of a search that finds nothing."""
    assert counts.study(None, "1.2") is None
    assert counts.page(None, 7) == {}
    assert list(counts.studies(None)) == []
    assert counts.holders(None, "instances", "1.2") == 0


@pytest.mark.parametrize(
    ("instances", "series", "read"),
    [
        (5, 2, Related(5, 2)),
        ("5", "2 ", Related(5, 2)),
        (5, None, Related(5, None)),
        (5, "two", Related(5, None)),
        (5, -1, Related(5, None)),
    ],
)
def test_a_count_is_a_number_or_its_text(
    search: Search, counts: StudyCounts, instances: object, series: object, read: Related
) -> None:
    """Services send both for IS. A series count that is neither is None."""
    search.answer = lambda _: answered(study("1.2", instances, series))
    assert counts.study(None, "1.2") == read


def test_all_studies_come_page_by_page_to_an_end_that_is_confirmed(
    search: Search, counts: StudyCounts
) -> None:
    """A page that is not full is followed up. The list ends after two without a new study."""
    uids = [f"1.2.{number}" for number in range(PAGE_STUDIES + 50)]
    search.answer = listing(*uids)
    pages = list(counts.studies(None))
    assert [len(page) for page in pages] == [PAGE_STUDIES, 50]
    assert [uid for page in pages for uid in page] == uids
    assert [request.url.params["offset"] for request in search.asked] == ["0", "200", "250", "250"]


def test_a_short_page_in_the_middle_is_not_the_end(search: Search, counts: StudyCounts) -> None:
    """A service may give less than it was asked for."""
    uids = [f"1.2.{number}" for number in range(7)]

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        return answered(*(study(uid) for uid in uids[offset : offset + 3]))

    search.answer = answer
    assert [uid for page in counts.studies(None) for uid in page] == uids


def test_a_service_that_ignores_the_offset_comes_to_an_end(
    search: Search, counts: StudyCounts
) -> None:
    """Each study is yielded once, and the third page is the last."""
    search.answer = lambda _: answered(study("1.2"), study("1.3"))
    assert list(counts.studies(None)) == [{"1.2": Related(1, 1), "1.3": Related(1, 1)}]
    assert len(search.asked) == 3


def test_a_service_that_does_not_count_cannot_be_compared_with(
    search: Search, counts: StudyCounts
) -> None:
    """Without NumberOfStudyRelatedInstances the search fails, because that is not "none"."""
    search.answer = lambda _: answered(study("1.2", None))
    with pytest.raises(ServiceAnswerError, match="does not give the number of instances"):
        counts.study(None, "1.2")


def test_a_service_that_ignores_the_uid_cannot_be_compared_with(
    search: Search, counts: StudyCounts
) -> None:
    """It answers with other studies: that is not "absent"."""
    search.answer = lambda _: answered(study("1.3"), study("1.4"))
    with pytest.raises(ServiceAnswerError, match="does not find a study by its UID") as raised:
        counts.study(None, "1.2")
    assert "1.3" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ServiceRefusedError),
        (403, ServiceRefusedError),
        (406, ServiceRefusedError),
        (501, ServiceRefusedError),
        (503, ServiceUnavailableError),
    ],
)
def test_a_search_that_is_refused_says_what_was_asked(
    search: Search, counts: StudyCounts, status: int, error: type[Exception]
) -> None:
    """The feed's own errors, about the search."""
    search.answer = lambda _: httpx.Response(status, content=b"Patient A^One")
    with pytest.raises(error, match=r"the search for studies \(QIDO-RS\)") as raised:
        list(counts.studies(None))
    assert "A^One" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[",
        b"null",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        json.dumps([study("x' OR 1=1")]).encode(),
        json.dumps([study("1" * 65)]).encode(),
        json.dumps([study(None)]).encode(),
        json.dumps([{"0020000D": {"vr": "UI"}}]).encode(),
        json.dumps([{**study("1.2"), "00201208": {"vr": "IS", "Value": "many"}}]).encode(),
    ],
)
def test_an_answer_of_another_form_is_refused(
    search: Search, counts: StudyCounts, body: bytes
) -> None:
    """It is not used, and no part of it is in the message."""
    search.answer = lambda _: httpx.Response(200, headers=JSON, content=body)
    with pytest.raises(ServiceAnswerError, match="it is not a list of DICOM objects") as raised:
        counts.study(None, "1.2")
    assert raised.value.__context__ is None or "OR" not in str(raised.value.__context__)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"[" * 100_000])
def test_series_of_another_form_are_refused(
    search: Search, counts: StudyCounts, body: bytes
) -> None:
    """The same for series and instances, of which only the number counts."""
    search.answer = lambda _: httpx.Response(200, headers=JSON, content=body)
    with pytest.raises(ServiceAnswerError, match="not a list of DICOM objects"):
        counts.holders(None, "series", "1.2")
    search.answer = lambda _: answered({}, {})
    assert counts.holders(None, "series", "1.2") == 2
