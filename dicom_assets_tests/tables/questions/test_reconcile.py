"""Reconciliation: which differences are drift, which are not due yet, and what is told of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pytest

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.questions import reconcile as reconciling
from dicom_assets.tables.questions.reconcile import (
    Reconciliation,
    backwards,
    differing_studies,
    reconcile,
)
from dicom_assets.window import Partitions, Window
from dicom_assets_tests.support.tables import DEFAULT, NOW, Archive, Bench, at, hours, key, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicom_assets.tables.delta.snapshot import Store

OTHER = "clinic-b"


class Sized(NamedTuple):
    """How much a study of the fake service holds."""

    instances: int
    series: int | None


@dataclass
class Service:
    """The search of an archive; what was asked is in `asked`."""

    archive: Archive
    tells_series: bool = True
    loses: int = 0
    shows: Partitions = None
    asked: list[tuple[str, object]] = field(default_factory=list)

    def _sizes(self, partition: str | None) -> dict[str, Sized]:
        live = [k for k in self.archive.live if partition in {None, k[0]}]
        series = Counter(study for _, study, _ in {(k[0], k[1], k[2]) for k in live})
        sizes = Counter(k[1] for k in live)
        told = {uid: series[uid] if self.tells_series else None for uid in sizes}
        return {uid: Sized(count, told[uid]) for uid, count in sorted(sizes.items())}

    def partitions(self) -> Partitions:
        """Return the data partitions that the service shows."""
        return self.shows

    def studies(self, partition: str | None) -> Iterator[dict[str, Sized]]:
        """Yield the studies one by one."""
        self.asked.append(("studies", partition))
        for uid, size in list(self._sizes(partition).items())[self.loses :]:
            yield {uid: size}

    def page(self, partition: str | None, offset: int) -> dict[str, Sized]:
        """Return the study at an offset."""
        self.asked.append(("page", offset))
        return dict(list(self._sizes(partition).items())[offset : offset + 1])

    def study(self, partition: str | None, uid: str) -> Sized | None:
        """Return one study."""
        self.asked.append(("study", uid))
        return self._sizes(partition).get(uid)

    def first(self) -> int | None:
        """Return the ticks of the first entry."""
        self.asked.append(("first", None))
        found = [e["timestamp_ticks"] for e in self.archive.entries_]
        return min((t for t in found if isinstance(t, int)), default=None)

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the entries of a window."""
        self.asked.append(("changes", window))
        yield self.archive.entries(window).changes


@pytest.fixture
def service(bench: Bench) -> Service:
    """Two studies in the first hour, one in the second; the tables hold all of them."""
    bench.archive.create(1)
    bench.archive.create(2, of=key("2", series="2"))
    bench.archive.create(3, of=key(study="2"))
    bench.archive.create(70, of=key(study="3"))
    bench.sync(hours(0, 2))
    return Service(bench.archive)


def whole(bench: Bench, service: Service) -> Reconciliation:
    """A comparison of all studies."""
    return reconcile(bench.store, service, NOW, sample=None)


def drop(store: Store, table: Table, study: str) -> None:
    """The rows of a study are gone from a table, by somebody else's hand."""
    column = INSTANCE.key[1] if table is INSTANCE else STUDY.key[1]
    names = [*table.key, *(["sequence"] if table.is_guarded else [])]
    rows = store.open(table).rows_of(column, [study], names)
    store.open(table).commit(Difference(table, deletes=rows), {"run_id": "somebody"})


def forget(store: Store, *sequences: int) -> None:
    """The log has lost entries."""
    rows = store.open(CHANGE).rows_of("sequence", sequences, ["sequence"])
    store.open(CHANGE).commit(Difference(CHANGE, deletes=rows), {"run_id": "somebody"})


def test_tables_in_step_with_the_service_agree(bench: Bench, service: Service) -> None:
    """Nothing differs; the feed is not asked, and each study only once."""
    assert whole(bench, service) == Reconciliation(compared=3)
    assert whole(bench, service).passed
    assert {name for name, _ in service.asked} == {"studies"}


def test_what_only_the_service_has_is_missing_at_its_hour(bench: Bench, service: Service) -> None:
    """Rows that somebody deleted: the hour of their entries is to be run again."""
    for table in (INSTANCE, SERIES, STUDY):
        drop(bench.store, table, "1.3")
    found = whole(bench, service)
    assert found == Reconciliation(compared=3, missing=1, hours=(at(60),))
    assert (found.drift, found.passed) == (1, False)


def test_what_only_the_tables_have_is_surplus_at_its_hour(bench: Bench, service: Service) -> None:
    """A study that has expired since leaves no entry; its old hour heals it, and is named."""
    bench.archive.expire(of=key(study="2"))
    found = whole(bench, service)
    assert found == Reconciliation(compared=3, surplus=1, hours=(at(0),))
    bench.sync(hours(0))
    assert whole(bench, service).passed


def test_another_number_of_instances_is_different(bench: Bench, service: Service) -> None:
    """One of two instances has expired."""
    bench.archive.expire(of=key("2", series="2"))
    assert whole(bench, service) == Reconciliation(compared=3, different=1, hours=(at(0),))


def test_a_study_row_that_disagrees_with_instance_is_different(
    bench: Bench, service: Service
) -> None:
    """`instance` is right, `study` is not: that is drift, too."""
    drop(bench.store, STUDY, "1.3")
    assert whole(bench, service) == Reconciliation(compared=3, different=1, hours=(at(60),))


def test_a_rejected_header_is_drift(bench: Bench) -> None:
    """The log is right, but the instance is not in the table."""
    sequence = bench.archive.create(1)
    bench.archive.unreadable[sequence] = "header cannot be read by the service"
    bench.sync(hours(0))
    found = whole(bench, Service(bench.archive))
    assert found == Reconciliation(compared=1, missing=1, hours=(at(0),))


def test_an_entry_that_the_log_has_lost_is_looked_for(bench: Bench, service: Service) -> None:
    """A late entry behind a sealed hour: nothing of the study is in the log, its hour is found."""
    bench.archive.create(5, of=key(study="9"))
    assert whole(bench, service) == Reconciliation(compared=4, missing=1, hours=(at(0),))


def test_a_lost_entry_of_a_known_study_names_its_own_hour(bench: Bench, service: Service) -> None:
    """Not the hour of the entries that the log has."""
    bench.archive.create(65, of=key("7"))
    assert whole(bench, service) == Reconciliation(compared=3, different=1, hours=(at(60),))


def test_what_came_after_the_newest_seal_is_not_due(bench: Bench, service: Service) -> None:
    """New, updated and deleted studies of an hour that has not been read are no drift."""
    bench.archive.create(130, of=key(study="4"))
    bench.archive.create(131, of=key("9"))
    bench.archive.delete(132, of=key(study="2"))
    assert whole(bench, service) == Reconciliation(compared=4, not_due=3)


def test_a_gap_between_seals_is_not_due(bench: Bench, service: Service) -> None:
    """An hour that nobody has run, between two that have been."""
    bench.archive.create(130, of=key(study="4"))
    bench.sync(hours(3))
    assert whole(bench, service) == Reconciliation(compared=4, not_due=1)


def test_an_hour_that_the_tables_have_not_followed_is_not_due(
    bench: Bench, service: Service
) -> None:
    """It is in the log, and `instance` comes next."""
    bench.archive.create(130, of=key(study="4"))
    bench.change(hours(2))
    assert whole(bench, service) == Reconciliation(compared=4, not_due=1)
    bench.instance(hours(2))
    assert whole(bench, service) == Reconciliation(compared=4, not_due=1)


def test_a_reopened_hour_is_not_due(bench: Bench, service: Service) -> None:
    """The audit has taken its seal away, and it is asked for again by itself."""
    bench.archive.create(65, of=key(study="4"))
    marks = pa.table({"hour": [at(60)], "sealedAt": [None]}, SYNC.arrow(["hour", "sealedAt"]))
    bench.store.open(SYNC).commit(Difference(SYNC, patches=marks), {"run_id": "audit"})
    assert whole(bench, service) == Reconciliation(compared=4, not_due=1)


def test_what_is_older_than_the_start_is_not_due(bench: Bench) -> None:
    """The feed begins before the first seal: what was stored then is in no hour that is read."""
    bench.archive.create(1)
    bench.archive.create(2, of=key(study="2"))
    bench.archive.create(61, of=key("2"))
    bench.sync(hours(1))
    found = whole(bench, Service(bench.archive))
    assert found == Reconciliation(compared=2, not_due=2)


def test_without_any_seal_nothing_is_due(bench: Bench) -> None:
    """Tables that were never filled cannot drift; the feed is not read for them."""
    bench.archive.create(1)
    service = Service(bench.archive)
    assert whole(bench, service) == Reconciliation(compared=1, not_due=1)
    assert "changes" not in {name for name, _ in service.asked}


def test_too_much_to_read_is_not_judged(
    bench: Bench, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading stops at a number of entries; what the log explains is drift all the same."""
    monkeypatch.setattr(reconciling, "MOST_ENTRIES", 1)
    bench.archive.create(130, of=key(study="4"))
    bench.archive.create(131, of=key(study="5"))
    bench.sync(hours(4))
    bench.archive.create(310, of=key(study="6"))
    drop(bench.store, INSTANCE, "1.3")
    found = whole(bench, service)
    assert (found.drift, found.not_due, found.hours) == (1, 3, (at(60),))


def test_a_difference_that_was_only_a_moment_is_none(bench: Bench, service: Service) -> None:
    """Studies move while they are listed: each difference is asked for once more."""
    service.loses = 2
    assert whole(bench, service) == Reconciliation(compared=3)
    assert sorted(service.asked, key=repr) == [
        ("studies", None),
        ("study", "1.1"),
        ("study", "1.2"),
    ]


def test_a_service_that_does_not_count_series_is_compared_by_instances(
    bench: Bench, service: Service
) -> None:
    """NumberOfStudyRelatedSeries is optional."""
    service.tells_series = False
    assert whole(bench, service).passed


def test_data_partitions_are_asked_one_by_one(bench: Bench) -> None:
    """The same UIDs in two partitions are two studies; without others the path has none."""
    bench.archive.create(1)
    bench.archive.create(2, of=key(partition=OTHER))
    bench.sync(hours(0))
    bench.archive.expire(of=key(partition=OTHER))
    service = Service(bench.archive)
    assert whole(bench, service) == Reconciliation(compared=2, surplus=1, hours=(at(0),))
    assert [p for name, p in service.asked if name == "studies"] == ["Microsoft.Default", OTHER]


def test_a_data_partition_that_the_service_shows_is_missed(bench: Bench) -> None:
    """No table has a row of it, which is what is wrong."""
    bench.archive.create(1)
    bench.sync(hours(0))
    bench.archive.create(2, of=key(partition=OTHER))
    service = Service(bench.archive, shows=frozenset({DEFAULT, OTHER}))
    found = whole(bench, service)
    assert (found.missing, found.hours) == (1, (at(0),))
    sampled = reconcile(bench.store, service, NOW, sample=20)
    assert (sampled.missing, sampled.hours) == (1, (at(0),))


def test_only_data_partitions_that_are_kept_are_compared(bench: Bench) -> None:
    """Rows of others are another check's affair, and the service's others nobody's."""
    bench.archive.create(1)
    bench.archive.create(2, of=key(partition=OTHER))
    bench.sync(hours(0))
    bench.archive.create(3, of=key(study="2", partition="third"))
    bench.archive.expire(of=key(partition=OTHER))
    for shows in (frozenset({DEFAULT, OTHER, "third"}), frozenset({DEFAULT})):
        service = Service(bench.archive, shows=shows)
        kept = frozenset({DEFAULT})
        found = reconcile(bench.store, service, NOW, kept=kept, sample=None)
        assert found == Reconciliation(compared=1)


def test_an_hour_that_was_read_with_fewer_data_partitions_is_not_due(bench: Bench) -> None:
    """Its entries are waited for, and no drift."""
    bench.archive.create(1)
    bench.archive.create(2, of=key(partition=OTHER))
    bench.archive.kept = frozenset({DEFAULT})
    bench.sync(hours(0))
    bench.sync(hours(1))
    bench.archive.kept = None
    bench.sync(hours(1))
    service = Service(bench.archive, shows=frozenset({DEFAULT, OTHER}))
    assert whole(bench, service) == Reconciliation(compared=2, not_due=1)


def test_a_sample_is_seeded_and_bounded(bench: Bench) -> None:
    """The same seed asks the same, another one something else; never more than was asked for."""
    for number in range(40):
        bench.archive.create(number, of=key(study=str(number + 1)))
    bench.sync(hours(0))

    def asked(seed: int) -> list[tuple[str, object]]:
        service = Service(bench.archive)
        found = reconcile(bench.store, service, NOW, sample=10, seed=seed)
        assert found.passed
        assert 5 <= found.compared <= 10
        return service.asked

    assert asked(1) == asked(1) != asked(2)
    assert len(asked(3)) == 10
    assert Counter(name for name, _ in asked(4)) == {"study": 5, "page": 5}


def test_a_sample_finds_drift_in_both_directions(bench: Bench, service: Service) -> None:
    """Half of it comes from the tables, half from the service; few studies are all looked at."""
    drop(bench.store, INSTANCE, "1.3")
    drop(bench.store, SERIES, "1.3")
    drop(bench.store, STUDY, "1.3")
    bench.archive.expire(of=key(study="2"))
    found = reconcile(bench.store, service, NOW, sample=100)
    assert found == Reconciliation(compared=3, missing=1, surplus=1, hours=(at(0), at(60)))


def test_nothing_that_is_told_holds_a_uid(bench: Bench, service: Service) -> None:
    """Counts and hours only, whatever is printed of it."""
    long = "1.2.826.0.1.3680043.8.498.13"
    of = (key()[0], long, f"{long}.1", f"{long}.1.1")
    bench.archive.create(5, of=of)
    found = whole(bench, service)
    assert found.missing == 1
    assert long not in repr(found)
    fields: dict[str, Any] = vars(found)
    assert {type(value) for value in fields.values()} == {int, tuple}


def sides(*rows: tuple[str, tuple[int, int | None] | None, tuple[int, int]]) -> pa.Table:
    """The differences of studies, each with what is served (None: nothing) and what is held."""
    keys = {"partitionName": ["p" for _ in rows], "studyInstanceUid": [uid for uid, _, _ in rows]}
    held = {"instances": [n for *_, (n, _) in rows], "series": [n for *_, (_, n) in rows]}
    rollups = {"instanceCount": held["instances"], "seriesCount": held["series"]}
    known = [(uid, size) for uid, size, _ in rows if size is not None]
    served = pa.table(
        {
            "partitionName": pa.array(["p" for _ in known], pa.string()),
            "studyInstanceUid": pa.array([uid for uid, _ in known], pa.string()),
            "instances": pa.array([size[0] for _, size in known], pa.int64()),
            "series": pa.array([size[1] for _, size in known], pa.int64()),
        }
    )
    return differing_studies(served, pa.table(keys | held | rollups))


@pytest.mark.parametrize(
    ("served", "held", "is_different"),
    [
        ((2, 1), (2, 1), False),
        ((2, None), (2, 1), False),
        ((2, 2), (2, 1), True),
        ((3, None), (2, 1), True),
        (None, (2, 1), True),
        ((2, 1), (0, 0), True),
        ((0, 0), (0, 0), False),
    ],
)
def test_the_comparison(
    served: tuple[int, int | None] | None, held: tuple[int, int], is_different: bool
) -> None:
    """Instances must be equal, series where they are said."""
    assert bool(sides(("1.2", served, held)).num_rows) == is_different


def test_looking_back_covers_everything_once() -> None:
    """The newest day first, then spans that double, to the first seal."""
    sealed = (Window(ticks(0), ticks(60)), hours(48, 24 * 20))
    spans = list(backwards(sealed))
    assert spans[0] == hours(24 * 19, 24 * 20)
    assert (spans[-1].start, spans[0].end) == (ticks(0), sealed[-1].end)
    assert all(later.start == earlier.end for later, earlier in pairwise(spans))
    assert len(spans) == 5


def test_a_clock_ahead_of_ours_hides_nothing(bench: Bench, service: Service) -> None:
    """An entry stamped an hour from now is an entry after the newest seal."""
    bench.archive.create((NOW - at(0)) / timedelta(minutes=1) + 60, of=key(study="4"))
    assert whole(bench, service).not_due == 1
