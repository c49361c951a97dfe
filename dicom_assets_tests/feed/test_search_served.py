"""Tables filled from the emulator over HTTP, compared with its search. And what breaks that."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets.errors import ServiceError, ServiceRefusedError
from dicom_assets.feed.search import Related
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.questions.reconcile import Reconciliation, reconcile
from dicom_assets.window import Window
from dicom_assets_tests.adversary import Faults, Rule, Status, breakable, serve
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feed_service import QUICK
from dicom_assets_tests.support.feeds import feed_of, search_of
from dicom_assets_tests.support.history import OTHER_PARTITION, at, header, study_uid
from dicom_assets_tests.support.history import START as FIRST
from dicom_assets_tests.support.steps import store_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicom_assets.tables.delta.snapshot import Store

pytestmark = pytest.mark.sockets

NOW = datetime(2024, 3, 2, tzinfo=UTC)
HOURS = [datetime(2024, 3, 1, hour, tzinfo=UTC) for hour in range(7)]
STUDIES = 12


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Twelve studies of one to three instances, four in each of three hours."""
    archive = Archive(tmp_path / "archive")
    for number in range(STUDIES):
        for sop in range(number % 3 + 1):
            archive.store(header(number, sop + 1, 1), at=at(number // 4, number, sop))
    yield archive
    archive.close()


class Asked:
    """An ASGI middleware that counts requests by path."""

    def __init__(self, app: Any, paths: Counter[str]) -> None:  # noqa: ANN401 - an ASGI application
        self.app, self.paths = app, paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Count, and go on."""
        self.paths[scope["path"]] += 1
        await self.app(scope, receive, send)


class World:
    """The service on a port, its faults, what it was asked, and the tables beside it."""

    def __init__(self, url: str, faults: Faults, paths: Counter[str], store: Store) -> None:
        self.faults, self.paths, self.store = faults, paths, store
        self.counts = search_of(url, retry_seconds=0.2, timeouts=QUICK)
        self.feed = feed_of(url, retry_seconds=5, timeouts=QUICK)

    def sync(self, first: int, end: int) -> None:
        """The tables hold the hours."""
        window, run = Window.between(HOURS[first], HOURS[end]), Run("run", NOW)
        steps.add_entries(self.store, window, self.feed, run)
        steps.follow_log(self.store, window, self.feed, run)
        for table in (SERIES, STUDY):
            steps.derive(self.store, table, window, run)

    def compare(self, *, sample: int | None = None, seed: int = 0) -> Reconciliation:
        """The tables against the search."""
        return reconcile(self.store, self.counts, NOW, sample=sample, seed=seed)


@pytest.fixture
def world(archive: Archive, tmp_path: Path) -> Iterator[World]:
    """Tables that hold all three hours."""
    faults, paths = Faults(), Counter[str]()
    application = Asked(breakable(archive, faults), paths)
    with serve(application) as running:
        world = World(running.url, faults, paths, store_in(tmp_path / "tables"))
        world.sync(0, 3)
        paths.clear()
        yield world
        world.counts.close()
        world.feed.close()


def drop(store: Store, study: int) -> None:
    """The rows of a study are gone from all three tables."""
    for table, column in (
        (INSTANCE, INSTANCE.key[1]),
        (SERIES, STUDY.key[1]),
        (STUDY, STUDY.key[1]),
    ):
        names = [*table.key, *(["sequence"] if table.is_guarded else [])]
        rows = store.open(table).rows_of(column, [study_uid(study)], names)
        store.open(table).commit(Difference(table, deletes=rows), {"run_id": "somebody"})


def test_tables_that_were_filled_from_the_service_agree(world: World) -> None:
    """All studies in three requests: the page, and its end confirmed twice."""
    assert world.compare() == Reconciliation(compared=STUDIES)
    assert world.paths.pop("/v2/partitions")
    assert world.paths == {"/v2/studies": 3}


def test_a_study_with_a_padded_uid_is_the_same_on_both_sides(
    world: World, archive: Archive
) -> None:
    """The search answers it with the space, and finds it without."""
    padded = header(STUDIES) | {"0020000D": {"vr": "UI", "Value": [f"{study_uid(STUDIES)} "]}}
    archive.store(padded, at=at(0, 30))
    world.sync(0, 3)
    assert world.compare() == Reconciliation(compared=STUDIES + 1)
    assert world.compare(sample=2 * STUDIES).passed
    assert world.counts.study(None, study_uid(STUDIES)) == Related(1, 1)


def test_drift_in_both_directions_is_found_at_its_hours(world: World, archive: Archive) -> None:
    """Missing, surplus and different, each in an hour of its own. Running these heals it."""
    drop(world.store, 0)
    archive.expire(study_uid(5))
    archive.delete(study_uid(8), f"{study_uid(8)}.1", at=at(2, 59))
    found = world.compare()
    assert found == Reconciliation(
        compared=STUDIES, missing=1, surplus=1, different=1, hours=tuple(HOURS[:3])
    )
    world.sync(0, 3)
    assert world.compare().passed


def test_what_is_not_read_yet_is_no_drift(world: World, archive: Archive) -> None:
    """A new study, another instance and a delete after the newest seal."""
    archive.store(header(20), at=at(4))
    archive.store(header(3, 9, 9), at=at(4, 1))
    archive.delete(study_uid(4), at=at(5))
    assert world.compare() == Reconciliation(compared=STUDIES + 1, not_due=3)
    world.sync(3, 6)
    assert world.compare() == Reconciliation(compared=STUDIES)


def test_a_late_entry_is_drift_at_its_hour(world: World, archive: Archive) -> None:
    """The service took it, its hour was sealed without it: found in the feed, healed by a run."""
    archive.store(header(20), at=at(1, 30))
    assert world.compare() == Reconciliation(compared=STUDIES + 1, missing=1, hours=(HOURS[1],))
    world.sync(1, 2)
    assert world.compare().passed


def test_data_partitions_are_compared_each(world: World, archive: Archive) -> None:
    """The same study in another data partition is another study, with a path of its own."""
    archive.store(header(0), partition=OTHER_PARTITION, at=at(3))
    world.sync(3, 4)
    assert world.compare() == Reconciliation(compared=STUDIES + 1)
    archive.expire(study_uid(0), partition=OTHER_PARTITION)
    assert world.compare() == Reconciliation(compared=STUDIES + 1, surplus=1, hours=(HOURS[3],))
    assert {path for path in world.paths if path.endswith("/studies")} == {
        "/v2/partitions/Microsoft.Default/studies",
        f"/v2/partitions/{OTHER_PARTITION}/studies",
    }


def test_a_data_partition_without_a_row_in_the_tables_is_missed(
    world: World, archive: Archive
) -> None:
    """The service shows it, and the log has lost its only entry."""
    assert world.counts.partitions() is None
    archive.store(header(0), partition=OTHER_PARTITION, at=at(1, 30))
    assert world.counts.partitions() == frozenset({"Microsoft.Default", OTHER_PARTITION})
    for sample in (None, 2 * STUDIES + 2):
        found = world.compare(sample=sample)
        assert (found.missing, found.drift, found.hours) == (1, 1, (HOURS[1],))
    world.sync(1, 2)
    assert world.compare().passed


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'[{"PartitionKey":1,"PartitionName":"a"},{"PartitionKey":2,"PartitionName":"b"}]', "ab"),
        (b'[{"partitionName":"a","createdDate":"2026-01-01T00:00:00Z"}]', "a"),
        (b"[]", None),
        (b'[{"name":1}]', None),
        (b'{"PartitionName":"a"}', None),
    ],
)
def test_data_partitions_are_known_by_their_list(body: bytes, names: str | None) -> None:
    """With fields in any case. An answer that is no such list is as good as none."""
    reply = httpx.Response(200, content=body, headers={"content-type": "application/json"})
    transport = httpx.MockTransport(lambda _: reply)
    with search_of("http://127.0.0.1:9", transport=transport, retry_seconds=0) as counts:
        assert counts.partitions() == (names and frozenset(names))


def test_a_sample_is_bounded_in_requests(world: World) -> None:
    """Four studies by UID and by place: four requests, the same ones for the same seed."""
    first = world.compare(sample=4, seed=3)
    assert first.passed
    assert 2 <= first.compared <= 4
    assert world.paths.pop("/v2/partitions")
    assert world.paths == {"/v2/studies": 4}
    assert world.compare(sample=4, seed=3) == first


@pytest.mark.parametrize("sample", [None, 4])
def test_a_service_that_does_not_search_was_not_looked_at(world: World, sample: int | None) -> None:
    """Absent, refused or broken: an error that says so, and no comparison that agrees."""
    for status in (404, 405, 501, 403, 503):
        world.faults.replace(Rule(Status(status), route="query"))
        with pytest.raises(ServiceError, match=rf"answered {status} .*QIDO-RS"):
            world.compare(sample=sample)


def test_a_service_without_a_search_is_no_wrong_address(world: World) -> None:
    """Its feed is read all the time, so neither the URL nor the version is to be looked at."""
    world.faults.replace(Rule(Status(404), route="query"))
    with pytest.raises(ServiceError, match="offers no search at that path") as refused:
        world.compare()
    assert "DICOM_" not in str(refused.value)


def test_a_passing_fault_of_the_search_is_outlasted(world: World) -> None:
    """The same retries as the feed's."""
    world.faults.replace(Rule(Status(503), route="query", last=2))
    assert world.compare().passed


def test_a_comparison_tells_no_uid(
    world: World, archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in what it returns, nor in what is logged on the way."""
    caplog.set_level(logging.DEBUG, logger="dicom_assets")
    world.faults.replace(Rule(Status(503), route="query", last=1))
    archive.store(header(20), at=at(1, 30))
    drop(world.store, 0)
    found = world.compare()
    assert found.drift == 2
    assert study_uid(0).rpartition(".")[0] not in repr(found) + caplog.text
    assert "retrying" in caplog.text


def test_the_other_questions(world: World, archive: Archive) -> None:
    """Series and instances by UID, an entry by its sequence, and the feed's first time."""
    uid = study_uid(2)
    assert world.counts.study(None, uid) == Related(3, 3)
    assert world.counts.holders(None, "series", f"{uid}.1") == 1
    assert world.counts.holders(None, "instances", f"{uid}.1.1") == 1
    assert world.counts.holders(None, "instances", f"{uid}.1.9") == 0
    entry = world.counts.entry(1).to_pylist()
    assert [(e["sequence"], e["action"], e["timestamp_ticks"]) for e in entry] == [
        (1, "Create", world.counts.first())
    ]
    archive.skip_sequences(5)
    assert world.counts.entry(10_000).num_rows == 0
    everything = Window.between(FIRST, NOW)
    told: list[int] = []
    pieces = list(world.counts.changes(everything, told.append))
    assert sum(piece.num_rows for piece in pieces) == told[-1] == 24
    world.faults.replace(Rule(Status(404), containing="v1"))
    with pytest.raises(ServiceRefusedError, match="sequence 1: only version 1") as refused:
        world.counts.entry(1)
    assert "DICOM_API_VERSION" not in str(refused.value), "another is asked for, whatever is set"
