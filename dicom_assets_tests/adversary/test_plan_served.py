"""The choice of faults for requests, and setting a plan while the emulator runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import (
    Faults,
    Latency,
    Plan,
    Reset,
    Rule,
    Shorter,
    Status,
    random_faults,
)
from dicom_assets_tests.support.dicom_files import dataset, header, many, part_10, post, sequences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_assets_tests.adversary.plan import Route

LIGHT: Final = "/v2/changefeed?includeMetadata=FALSE"
HEAVY: Final = "/v2/changefeed"
LATEST: Final = "/v2/changefeed/latest"
METADATA: Final = "/v2/studies/1.2.1/metadata"
QUERY: Final = "/v2/studies"


def statuses(client: httpx.Client, *paths: str) -> list[int]:
    """The statuses of one request for each path."""
    return [client.get(path).status_code for path in paths]


@pytest.mark.parametrize(
    ("route", "hit"),
    [
        ("feed", {LIGHT, HEAVY, LATEST}),
        ("page", {LIGHT, HEAVY}),
        ("light", {LIGHT}),
        ("heavy", {HEAVY}),
        ("latest", {LATEST}),
        ("metadata", {METADATA}),
        ("query", {QUERY}),
        ("any", {LIGHT, HEAVY, LATEST, METADATA, QUERY}),
    ],
)
def test_a_rule_is_about_a_route(
    client: httpx.Client, archive: Archive, faults: Faults, route: Route, hit: set[str]
) -> None:
    """The requests on its route are hit, the others are not."""
    many(archive, 1)
    paths = [LIGHT, HEAVY, LATEST, METADATA, QUERY]
    faults.replace(Rule(Status(599), route))
    assert {p for p, s in zip(paths, statuses(client, *paths), strict=True) if s == 599} == hit
    assert faults.requests.total() == 5


def test_writes_are_routes_too(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """A store, an update and a delete fail before they are done, and are done when asked again."""
    body = {"studyInstanceUids": ["1.2.1"], "changeDataset": {"00081030": {"vr": "LO"}}}
    writes: dict[Route, Callable[[], httpx.Response]] = {
        "store": lambda: post(client, "/v2/studies", part_10(dataset())),
        "update": lambda: client.post("/v2/studies/$bulkUpdate", json=body),
        "delete": lambda: client.delete("/v2/studies/1.2.1"),
    }
    for count, (route, write) in enumerate(writes.items()):
        faults.replace(Rule(Status(503), route, times=1))
        assert write().status_code == 503
        assert len(sequences(client)) == count
        assert write().is_success
    assert sequences(client) == [1, 2, 3]


def test_a_write_may_be_done_and_its_answer_lost(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """The connection is reset after the work: asking again finds it done."""
    faults.replace(Rule(Reset(), "store", times=1))
    with pytest.raises(httpx.ReadError):
        post(client, "/v2/studies", part_10(dataset()))
    assert sequences(client) == [1]
    assert post(client, "/v2/studies", part_10(dataset())).status_code == 409


def test_a_rule_counts(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """From the k-th request on its route to the last, and so many times."""
    faults.replace(Rule(Status(599), "light", first=2, times=2))
    assert statuses(client, LIGHT, HEAVY, LIGHT, LIGHT, LIGHT) == [200, 200, 599, 599, 200]
    faults.replace(Rule(Status(599), "light", first=2, last=3))
    assert statuses(client, LIGHT, LIGHT, LIGHT, LIGHT) == [200, 599, 599, 200]
    faults.replace(Rule(Status(599)))
    assert statuses(client, LIGHT, HEAVY, LATEST) == [599] * 3


def test_a_rule_may_look_at_the_request(client: httpx.Client, faults: Faults) -> None:
    """A text that the path and query must hold."""
    faults.replace(Rule(Status(599), containing="limit=1"))
    assert statuses(client, LIGHT, f"{LIGHT}&limit=1") == [200, 599]


def test_401_at_a_page_once_twice_and_for_ever(client: httpx.Client, faults: Faults) -> None:
    """The page is refused so often; what came before and after is not."""
    for times, expected in ((1, [401, 200, 200]), (2, [401, 401, 200]), (None, [401] * 3)):
        faults.replace(Rule(Status(401), "page", first=3, times=times))
        assert statuses(client, *[LIGHT] * 5) == [200, 200, *expected]


def test_the_log_says_what_was_done_to_whom(client: httpx.Client, faults: Faults) -> None:
    """Each hit: which request of all, which rule, which of the rule's, and what."""
    faults.replace([Rule(Latency(0), "light"), Rule(Shorter(), "page", first=2)])
    statuses(client, LATEST, LIGHT, f"{LIGHT}&limit=5", METADATA)
    told = [(hit.request, hit.rule, hit.count, hit.route, hit.fault) for hit in faults.log]
    assert told == [
        (2, 0, 1, "light", "latency"),
        (3, 0, 2, "light", "latency"),
        (3, 1, 2, "light", "shorter"),
    ]
    assert faults.log[2].query == "includeMetadata=FALSE&limit=5"
    assert faults.requests == {"latest": 1, "light": 2, "metadata": 1}


def test_a_plan_is_set_read_and_dropped_over_http(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """PUT takes JSON, GET shows it, DELETE ends it; the admin's own requests never fail."""
    assert client.get("/admin/faults").json() == {"rules": []}
    plan = {"rules": [{"fault": {"kind": "status", "status": 599}, "route": "any", "times": 2}]}
    assert client.put("/admin/faults", json=plan).status_code == 204
    assert client.get("/admin/faults").json() == plan
    assert faults.plan == Plan.of(Rule(Status(599), "any", times=2))
    assert statuses(client, HEAVY) == [599]
    log = client.get("/admin/faults/log").json()
    assert log["requests"] == {"heavy": 1}
    (hit,) = log["hits"]
    assert (hit["method"], hit["route"], hit["count"], hit["fault"]) == (
        "GET",
        "heavy",
        1,
        "status",
    )
    assert client.delete("/admin/faults").status_code == 204
    assert statuses(client, HEAVY) == [200]
    assert client.get("/admin/faults/log").json() == {"requests": {}, "hits": []}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"rules":[{}]}', b'{"rules":[{"fault":{"kind":"earthquake"}}]}'],
)
def test_a_plan_that_is_none_changes_nothing(
    client: httpx.Client, faults: Faults, body: bytes
) -> None:
    """400 with the place of the mistake; the plan that was set stays."""
    faults.replace(Status(599))
    answer = client.put("/admin/faults", content=body)
    assert answer.status_code == 400
    assert answer.text
    assert statuses(client, HEAVY) == [599]


def test_without_faults_there_is_no_admin_and_no_adversary(tmp_path: Path) -> None:
    """An application that was not made with faults cannot be given any."""
    archive = Archive(tmp_path)
    application = create_application(archive)
    assert "Adversary" not in str(application.user_middleware)
    with server.start(application) as running:
        for method in ("GET", "PUT", "DELETE"):
            assert httpx.request(method, f"{running.url}/admin/faults").status_code == 404
    archive.close()


def test_without_a_plan_nothing_changes(client: httpx.Client, url: str, archive: Archive) -> None:
    """Every answer is, byte for byte, that of an application without faults."""
    many(archive, 3)
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.2")
    paths = [LIGHT, HEAVY, LATEST, METADATA, QUERY, "/v2/changefeed?limit=0", "/nowhere", "/"]
    with server.start(archive) as plain, httpx.Client(base_url=plain.url) as other:
        for path in paths:
            ours, theirs = client.get(path), other.get(path)
            assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
            names = set(theirs.headers) - {"date"}
            assert {n: ours.headers[n] for n in names} == {n: theirs.headers[n] for n in names}


def test_a_rule_that_never_hits_changes_nothing(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """The answer passes through the adversary's hands as it was."""
    many(archive, 2)
    paths = [LIGHT, HEAVY, LATEST, METADATA, QUERY, "/v2/changefeed?limit=0&limit=%C3%BC"]
    before = [client.get(path) for path in paths]
    faults.replace(Rule(Status(599), containing="never"))
    for path, plain in zip(paths, before, strict=True):
        answer = client.get(path)
        assert (answer.status_code, answer.content) == (plain.status_code, plain.content)
        assert dict(answer.headers) | {"date": ""} == dict(plain.headers) | {"date": ""}


def outcome(client: httpx.Client, path: str) -> str:
    """What became of one request, in a few letters."""
    try:
        answer = client.get(path)
    except httpx.TransportError as error:
        return type(error).__name__
    return f"{answer.status_code} {len(answer.content)} {answer.headers.get('content-type')}"


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_a_seed_replays_the_same_faults(
    client: httpx.Client, archive: Archive, faults: Faults, rate: float
) -> None:
    """The same plan and requests, one after another or from several threads: the same faults."""
    many(archive, 5)
    paths = [f"{LIGHT}&limit={n}" for n in range(1, 81)] + [f"{LATEST}?a={n}" for n in range(20)]

    def run(threads: int) -> list[tuple[str, str]]:
        faults.replace(random_faults(7, rate))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda path: outcome(client, path), paths))
        return sorted((hit.query, hit.fault) for hit in faults.log)

    first = run(1)
    assert first == run(1) == run(6)
    assert rate * 50 < len(first) < rate * 200
    faults.replace(random_faults(8, rate))
    for path in paths:
        outcome(client, path)
    assert sorted((hit.query, hit.fault) for hit in faults.log) != first


def test_no_request_fails_more_than_so_often_in_a_row(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """Asked again and again, it is answered well after two faults at the latest."""
    archive.store(header())
    whole = outcome(client, LIGHT)
    faults.replace(random_faults(1, 1.0))
    for path in (LIGHT, f"{LIGHT}&limit=2", LATEST):
        hits = []
        for _ in range(9):
            before = len(faults.log)
            seen = outcome(client, path)
            hits.append(len(faults.log) - before)
            assert hits[-1] or path == LATEST or seen == whole
        assert hits == [1, 1, 0] * 3
