"""Find: facts become one verdict and one next step; each verdict once as a table, once for real."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pytest

from dicom_assets.errors import ServiceRefusedError, ServiceUnavailableError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.questions import find, reconcile
from dicom_assets.tables.questions.find import (
    Facts,
    KnownEntry,
    Limits,
    Rejected,
    Seal,
    Verdict,
    judge_facts,
)
from dicom_assets.window import ticks_of
from dicom_assets_tests.support.tables import (
    DEFAULT,
    NOW,
    START,
    Archive,
    Bench,
    at,
    hours,
    insert,
    key,
    row,
    ticks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicom_assets.window import Partitions, Window

LIMITS = Limits(NOW, START, None, timedelta(minutes=15))
OTHER = "clinic-b"


def an_entry(
    sequence: int, minutes: float, action: str = "Create", state: str = "Current"
) -> KnownEntry:
    """An entry at a minute."""
    return KnownEntry(sequence, action, state, ticks(minutes), DEFAULT)


ONE = an_entry(7, 5)
SEALED = Seal(at(0), is_sealed=True)
HELD = {"instance": 1, "series": 1, "study": 1}
NONE = {"instance": 0, "series": 0, "study": 0}
FINE = Facts("1.2.3", "study", (ONE,), expected=1, rows=HELD, seals=(SEALED,), served=1)
ABSENT = Facts("1.2.3", rows=NONE, served=0, is_searched=True)
REJECTED = Rejected(7, "header is of another instance", 2, NOW + timedelta(hours=2), at(0))
FRESH = replace(FINE, fresh=(an_entry(9, 130),))

# name, facts, limits, hours of the next step, what the sentence says
CASES: list[tuple[str, Facts, Limits, tuple[datetime, ...], str]] = [
    ("in step", FINE, LIMITS, (), "as the service does"),
    ("in step", replace(FINE, served=None, failure="no route"), LIMITS, (), "as the log says"),
    (
        "rejected",
        replace(FINE, rejected=(REJECTED,), behind=(ONE,), rows=NONE),
        LIMITS,
        (at(0),),
        "entry 7 was rejected: header is of another instance. It was tried 2 times",
    ),
    (
        "rejected",
        replace(ABSENT, asked="7", rejected=(REJECTED, replace(REJECTED, reason="unknown action"))),
        LIMITS,
        (at(0),),
        (
            "unknown action. No retry can help, because the entry itself cannot be read: the "
            "operator of the service has to correct it in the feed"
        ),
    ),
    (
        "rejected",
        replace(ABSENT, asked="7", rejected=(replace(REJECTED, attempts=1, next_attempt=NOW),)),
        LIMITS,
        (at(0),),
        "It was tried 1 time and is retried by the next run of any hour",
    ),
    (
        "no seal",
        replace(FINE, seals=(Seal(at(0), is_sealed=False),)),
        LIMITS,
        (at(0),),
        "the hour 2026-01-01 00:00 UTC has no seal (any more)",
    ),
    ("no seal", FRESH, LIMITS, (at(120),), "entry 9 lies in the hour 2026-01-01 02:00 UTC"),
    (
        "too young",
        FRESH,
        replace(LIMITS, now=at(190)),
        (),
        (
            "stored at 02:10:00 UTC (2026-01-01, entry 9); its hour ends at 03:00 and is read at "
            "03:15 UTC (DICOM_DELAY_MINUTES); nothing to do"
        ),
    ),
    (
        "too young",
        replace(FINE, served=0, fresh=(an_entry(9, 23 * 60 + 50.5, "Delete", "Deleted"),)),
        replace(LIMITS, now=at(24 * 60)),
        (),
        (
            "deleted at 23:50:30 UTC (2026-01-01, entry 9); its hour ends at 00:00 and is read at "
            "2026-01-02 00:15 UTC"
        ),
    ),
    (
        "late",
        replace(FRESH, seals=(SEALED, Seal(at(120), is_sealed=True))),
        LIMITS,
        (at(120),),
        "it came late",
    ),
    (
        "data partition not kept",
        FRESH,
        replace(LIMITS, data_partitions=(OTHER,)),
        (at(120),),
        "Microsoft.Default, which is not kept. Add it to DICOM_DATA_PARTITIONS",
    ),
    (
        "before the start",
        FRESH,
        replace(LIMITS, start=at(180)),
        (at(120),),
        "Set it to 2026-01-01 02:00 UTC or earlier",
    ),
    ("after the end", FRESH, replace(LIMITS, end=at(120)), (at(120),), "DICOM_END_TIME"),
    (
        "not followed",
        replace(FINE, behind=(ONE,), rows=NONE, seals=(replace(SEALED, lagging=("instance",)),)),
        LIMITS,
        (at(0),),
        "instance does not show 1 instance as the log does",
    ),
    ("behind", replace(FINE, behind=(ONE,), rows=NONE), LIMITS, (at(0),), "run the hour again"),
    (
        "not rolled up",
        replace(FINE, stale=("series", "study")),
        LIMITS,
        (at(0),),
        "series and study differ from it",
    ),
    ("expired unseen", replace(FINE, served=0), LIMITS, (at(0),), "the service 0"),
    (
        "not in the feed",
        replace(ABSENT, level="study", served=3),
        LIMITS,
        (),
        "between DICOM_START_TIME (2026-01-01 00:00 UTC) and now: tell the service's owner",
    ),
    (
        "not in the feed",
        replace(ABSENT, level="study", served=3, begins=at(-600)),
        LIMITS,
        (),
        "Set DICOM_START_TIME to 2025-12-31 14:00 UTC",
    ),
    (
        "not in the feed",
        replace(ABSENT, level="study", served=3, is_searched=False),
        LIMITS,
        (),
        "There are more",
    ),
    ("unknown", ABSENT, LIMITS, (), "check the UID"),
    ("unknown", replace(ABSENT, asked="12"), LIMITS, (), "Sequences have gaps"),
    ("unknown", replace(ABSENT, served=None, failure="x"), LIMITS, (), "could not be asked"),
    (
        "deleted",
        Facts("1.2", "study", (ONE, an_entry(8, 65, "Delete", "Deleted")), rows=NONE, served=0),
        LIMITS,
        (),
        "in the hour 2026-01-01 01:00 UTC (entry 8)",
    ),
    (
        "expired",
        Facts("1.2", "study", (an_entry(7, 5, state="Deleted"),), rows=NONE, served=0),
        LIMITS,
        (),
        "without a Delete entry",
    ),
]


@pytest.mark.parametrize(
    ("name", "facts", "limits", "again", "said"), CASES, ids=[case[0] for case in CASES]
)
def test_a_verdict(
    name: str, facts: Facts, limits: Limits, again: tuple[datetime, ...], said: str
) -> None:
    """Facts on the left; verdict, hours to run again and the sentence on the right."""
    found = judge_facts(facts, limits)
    assert (found.name, found.hours) == (name, again)
    assert said in found.sentence
    assert "\n" not in found.sentence
    assert re.search(r"\d\d:\d\d(:\d\d)?\b", found.sentence), "the minute of what it says"
    assert found.is_fine == (name in {"in step", "deleted", "expired", "too young"})
    assert found.select == (("series", "study") if name == "not rolled up" else find.ALL_TABLES)


def test_every_verdict_of_the_page_is_shown_here() -> None:
    """The table in the module's signpost and these cases name the same verdicts."""
    lines = [line.split("|")[1] for line in (find.__doc__ or "").splitlines() if line[:1] == "|"]
    names = {name.strip() for line in lines[2:] for name in line.split(",")}
    assert names == {name for name, *_ in CASES}


class Sized(NamedTuple):
    """How much a study holds."""

    instances: int
    series: int | None


@dataclass
class Service:
    """The search and the feed of an archive; `error` is what they say instead."""

    archive: Archive
    error: Exception | None = None
    asked: list[Window] = field(default_factory=list)
    has_search: bool = True

    def _live(self, partition: str | None, place: int, uid: str) -> list[tuple[str, ...]]:
        if not self.has_search:
            raise ServiceRefusedError("404 Not Found")
        if self.error is not None:
            raise self.error
        return [k for k in self.archive.live if k[place] == uid and partition in {None, k[0]}]

    def study(self, partition: str | None, uid: str) -> Sized | None:
        """Return one study."""
        found = self._live(partition, 1, uid)
        return Sized(len(found), len({k[2] for k in found})) if found else None

    def holders(self, partition: str | None, level: str, uid: str) -> int:
        """Return how many series or instances."""
        return min(1, len(self._live(partition, 2 if level == "series" else 3, uid)))

    def partitions(self) -> Partitions:
        """Nobody asks."""
        raise NotImplementedError

    def studies(self, partition: str | None) -> Iterator[dict[str, Sized]]:
        """Nobody asks for all."""
        raise NotImplementedError

    def page(self, partition: str | None, offset: int) -> dict[str, Sized]:
        """Nobody asks by place."""
        raise NotImplementedError

    def first(self) -> int | None:
        """Return the ticks of the first entry."""
        found = [e["timestamp_ticks"] for e in self.archive.entries_]
        return min((t for t in found if isinstance(t, int)), default=None)

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the entries of a window."""
        self.asked.append(window)
        if self.error is not None:
            raise self.error
        if progress is not None:
            progress(1)
        yield self.archive.entries(window).changes

    def entry(self, sequence: int) -> pa.Table:
        """Return one entry."""
        if self.error is not None:
            raise self.error
        met = [e for e in self.archive.entries_ if e["sequence"] == sequence]
        return pa.Table.from_pylist(met, schema=CHANGE.arrow())


@pytest.fixture
def service(bench: Bench) -> Service:
    """A study of two series in the first hour, and tables that hold it."""
    bench.archive.create(1)
    bench.archive.create(2, of=key("2", series="2"))
    bench.sync(hours(0))
    bench.archive.asked.clear()
    return Service(bench.archive)


def found(
    bench: Bench, service: Service | None, asked: str = "1.1", limits: Limits = LIMITS
) -> tuple[Facts, Verdict]:
    """The facts and the verdict."""
    facts = find.gather_facts(bench.store, asked, service, limits)
    return facts, judge_facts(facts, limits)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("1.1", ("study", 2, {"instance": 2, "series": 2, "study": 1})),
        ("1.1.2", ("series", 1, {"instance": 1, "series": 1, "study": 1})),
        ("1.1.2.2", ("instance", 1, {"instance": 1, "series": 1, "study": 1})),
        ("2", ("instance", 1, {"instance": 1, "series": 1, "study": 1})),
    ],
)
def test_a_uid_or_a_sequence_in_step(
    bench: Bench, service: Service, asked: str, expected: tuple[str, int, dict[str, int]]
) -> None:
    """Whatever it names, its entries, rows and seals are told; only open hours are searched."""
    facts, told = found(bench, service, asked)
    assert told.name == "in step"
    assert (facts.level, len(facts.entries), facts.rows) == expected
    assert facts.seals == (Seal(at(0), is_sealed=True),)
    assert facts.stored == facts.live == facts.served
    a_day_ago = ticks_of(NOW - timedelta(days=1, hours=1))
    assert [window.start >= a_day_ago for window in service.asked] == [True]


@pytest.mark.parametrize("asked", ["1.1", "1.1.2", "1.1.2.2", "2"])
@pytest.mark.parametrize(
    ("action", "said"), [("delete", "deleted"), ("update", "updated"), ("create", "stored")]
)
def test_a_change_in_the_hour_that_is_not_over(
    bench: Bench, service: Service, asked: str, action: str, said: str
) -> None:
    """It is told with its second, and when it is read; nothing has to be done."""
    whose = key("2", series="2")
    if action == "create":
        bench.archive.delete(3, of=whose)
        bench.sync(hours(0))
    getattr(bench.archive, action)(60 + 50 / 60, of=whose)
    facts, told = found(bench, service, asked, replace(LIMITS, now=at(65)))
    assert (told.name, told.is_fine, told.hours) == ("too young", True, ())
    sequence = facts.fresh[-1].sequence
    # The study keeps another instance.
    part = "an instance of it was " if (action, asked) == ("delete", "1.1") else ""
    assert told.sentence == (
        f"{part}{said} at 01:00:50 UTC (2026-01-01, entry {sequence}); its hour ends at 02:00 and "
        "is read at 02:15 UTC (DICOM_DELAY_MINUTES); nothing to do"
    )
    assert not any(bench.archive.asked), "headers were asked for by the fill only"


def test_a_deletion_of_which_the_create_is_read_later(bench: Bench, service: Service) -> None:
    """The hour of the Create is read after the deletion and says Deleted: it did not expire."""
    bench.archive.create(70, of=key(study="2"))
    bench.archive.delete(130, of=key(study="2"))
    bench.sync(hours(1))
    told = found(bench, service, "1.2", replace(LIMITS, now=at(140)))[1]
    assert (told.name, "deleted at 02:10:00 UTC" in told.sentence) == ("too young", True)


def test_a_change_in_an_open_hour_hides_no_fault(bench: Bench, service: Service) -> None:
    """A row that somebody removed is told, although an update is on its way."""
    rows = bench.store.open(INSTANCE).rows([*INSTANCE.key, "sequence"])
    gone = Difference(INSTANCE, deletes=rows)
    bench.store.open(INSTANCE).commit(gone, {"run_id": "somebody"})
    bench.archive.update(65)
    assert found(bench, service, limits=replace(LIMITS, now=at(70)))[1].name == "behind"


def test_a_deletion_in_a_due_hour_that_was_not_read(bench: Bench, service: Service) -> None:
    """However long ago: its hour is to be run, and nothing has expired."""
    bench.archive.delete(65)
    for now in (at(200), NOW):
        told = found(bench, service, "1.1.1.1", replace(LIMITS, now=now))[1]
        assert (told.name, told.hours) == ("no seal", (at(60),))
        assert "deleted at 01:05:00 UTC" in told.sentence


def test_an_open_hour_that_is_not_to_be_read(bench: Bench, service: Service) -> None:
    """What is left out of purpose is no news of a study that is in step."""
    bench.archive.update(65)
    soon = replace(LIMITS, now=at(70))
    assert found(bench, service, limits=replace(soon, end=at(60)))[1].name == "in step"
    bench.sync(hours(1))
    bench.archive.create(126, of=key("9", partition=OTHER))
    kept = replace(LIMITS, now=at(130), data_partitions=(DEFAULT,))
    assert found(bench, service, "1.1.1", kept)[1].name == "in step"


def test_a_service_without_a_search_still_has_a_feed(bench: Bench, service: Service) -> None:
    """The open hours are read before anything is searched by UID."""
    bench.archive.delete(65)
    service.has_search = False
    facts, told = found(bench, service, limits=replace(LIMITS, now=at(70)))
    assert (told.name, facts.failure) == ("too young", "404 Not Found")


def test_a_deleted_and_an_expired_study(bench: Bench, service: Service) -> None:
    """With a Delete entry; without one, before and after its hour was read again."""
    bench.archive.expire()
    bench.archive.expire(of=key("2", series="2"))
    facts, told = found(bench, service)
    assert (told.name, told.hours, facts.served) == ("expired unseen", (at(0),), 0)
    bench.sync(hours(0))
    assert found(bench, service)[1].name == "expired"
    bench.archive.create(70)
    bench.archive.delete(71)
    bench.sync(hours(1))
    assert found(bench, service, "1.1.1.1")[1].name == "deleted"


def test_a_rejected_header(bench: Bench, service: Service) -> None:
    """By study and by sequence: the reason, and when it is tried again."""
    sequence = bench.archive.create(70, of=key(study="2"))
    bench.archive.unreadable[sequence] = "header cannot be decoded"
    bench.sync(hours(1))
    for asked in ("1.2", str(sequence)):
        facts, told = found(bench, service, asked)
        assert (told.name, told.hours) == ("rejected", (at(60),))
        assert [one.reason for one in facts.rejected] == ["header cannot be decoded"]


def test_a_sequence_that_never_reached_the_log(bench: Bench, service: Service) -> None:
    """An entry of an unknown action is in `rejected` only."""
    bench.archive.unusable.append(Rejection(99, ticks(65), "unknown action"))
    bench.change(hours(1))
    facts, told = found(bench, service, "99")
    assert (told.name, facts.level, facts.seals) == (
        "rejected",
        None,
        (Seal(at(60), is_sealed=True, lagging=("instance", "series", "study")),),
    )


@pytest.mark.parametrize("asked", ["1.2", "1.2.1", "1.2.1.1", "3"])
def test_an_entry_of_an_hour_that_was_not_read(bench: Bench, service: Service, asked: str) -> None:
    """The feed has it, the log has not: its hour has no seal, or is not read yet."""
    bench.archive.create(130, of=key(study="2"))
    facts, told = found(bench, service, asked)
    assert (told.name, told.hours, [e.sequence for e in facts.fresh]) == (
        "no seal",
        (at(120),),
        [3],
    )
    assert found(bench, service, asked, replace(LIMITS, now=at(185)))[1].name == "too young"


def test_an_entry_behind_a_seal(bench: Bench, service: Service) -> None:
    """It came late; the sealed hours are searched from the newest back."""
    bench.archive.create(3, of=key(study="2"))
    assert found(bench, service, "1.2")[1].name == "late"
    assert len(service.asked) == 3, "the open hours, the hours without a seal, the sealed hours"


def test_a_second_birth_that_was_not_read(bench: Bench, service: Service) -> None:
    """Deleted by the log, held by the service: the new entry is looked for."""
    bench.archive.delete(65)
    bench.sync(hours(1))
    bench.archive.create(130)
    assert found(bench, service, "1.1.1.1")[1].name == "no seal"


def test_an_hour_that_lost_its_seal(bench: Bench, service: Service) -> None:
    """The audit reopened it."""
    marks = pa.table({"hour": [at(0)], "sealedAt": [None]}, SYNC.arrow(["hour", "sealedAt"]))
    bench.store.open(SYNC).commit(Difference(SYNC, patches=marks), {"run_id": "audit"})
    assert found(bench, service)[1].name == "no seal"


def test_tables_that_have_not_followed(bench: Bench, service: Service) -> None:
    """Step by step: the log only, then `instance`, then the rest."""
    bench.archive.create(70, of=key(study="2"))
    bench.change(hours(1))
    assert found(bench, service, "1.2")[1].name == "not followed"
    bench.instance(hours(1))
    facts, told = found(bench, service, "1.2")
    assert (told.name, facts.stale, told.select) == (
        "not rolled up",
        ("series", "study"),
        ("series", "study"),
    )
    bench.rollup(SERIES, hours(1))
    assert found(bench, service, "1.2")[0].stale == ("study",)
    bench.rollup(STUDY, hours(1))
    service.asked.clear()
    assert found(bench, service, "1.2")[1].name == "in step"
    assert len(service.asked) == 1, "the log explains it: no search of the feed but of open hours"


def test_a_row_that_somebody_removed(bench: Bench, service: Service) -> None:
    """`instance` followed, and holds it no more."""
    rows = bench.store.open(INSTANCE).rows([*INSTANCE.key, "sequence"])
    gone = Difference(INSTANCE, deletes=rows)
    bench.store.open(INSTANCE).commit(gone, {"run_id": "somebody"})
    assert found(bench, service)[1].name == "behind"


def test_a_data_partition_that_is_not_kept(bench: Bench, service: Service) -> None:
    """The feed is of all data partitions, the search of those that are kept."""
    bench.archive.create(3, of=key(study="2", partition=OTHER))
    kept = replace(LIMITS, data_partitions=(DEFAULT,))
    assert found(bench, service, "1.2", kept)[1].name == "data partition not kept"


def test_outside_of_what_is_read(bench: Bench, service: Service) -> None:
    """Before the start, by sequence; after the end, by UID."""
    bench.archive.create(-70, of=key(study="2"))
    bench.archive.create(130, of=key(study="3"))
    assert found(bench, service, "3")[1].name == "before the start"
    facts, told = found(bench, service, "1.2")
    assert (told.name, facts.begins) == ("not in the feed", at(-70))
    assert "it is older" in told.sentence
    assert found(bench, service, "1.3", replace(LIMITS, end=at(120)))[1].name == "after the end"


def test_a_feed_that_does_not_name_it(
    bench: Bench, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service holds it without an entry; or there is too much to look through."""
    bench.archive.live[key(study="2")] = {}
    assert "tell the service's owner" in found(bench, service, "1.2")[1].sentence
    monkeypatch.setattr(reconcile, "MOST_ENTRIES", 1)
    assert "There are more" in found(bench, service, "1.2")[1].sentence


def test_nobody_knows_it(bench: Bench, service: Service) -> None:
    """By UID and by sequence; also in tables that do not exist."""
    for asked in ("1.9", "99"):
        assert found(bench, service, asked)[1].name == "unknown"


def test_tables_that_were_never_filled(bench: Bench) -> None:
    """The feed is searched from the start on, and the hour has no seal."""
    bench.archive.create(5)
    assert found(bench, Service(bench.archive))[1].name == "no seal"
    assert found(bench, None)[1].name == "unknown"


@pytest.mark.parametrize(
    "error",
    [ServiceUnavailableError("no route"), ServiceRefusedError("404 Not Found")],
    ids=["unreachable", "no search"],
)
def test_a_service_that_does_not_answer_is_said(
    bench: Bench, service: Service, error: Exception
) -> None:
    """The tables are told all the same; only what they do not know stays unknown."""
    service.error = error
    facts, told = found(bench, service)
    assert (told.name, facts.failure, facts.served) == ("in step", str(error), None)
    assert found(bench, service, "1.9")[1].name == "unknown"


def test_a_row_that_was_taken_over(bench: Bench) -> None:
    """A table of the template has rows without entries: in step when the service holds them."""
    insert(bench.store, INSTANCE, [row(None)])
    insert(bench.store, STUDY, [{"partitionName": DEFAULT, "studyInstanceUid": "1.1"}])
    bench.archive.live[key()] = {}
    facts, told = found(bench, Service(bench.archive))
    assert (told.name, facts.rows["instance"]) == ("not rolled up", 1)
    assert told.hours == ()
