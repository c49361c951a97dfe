"""F39: UIDs with padding. Scanners pad with a space, and the service stores and serves it so."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY
from dicom_assets.tables import change, rejected
from dicom_assets.tables.delta import commit
from dicom_assets.tables.sync import open_hours
from dicom_assets.window import TICKS_PER_HOUR, Window, datetime_of
from dicom_assets_tests.feed.faults.truth import WINDOW
from dicom_assets_tests.support.feed_service import HOUR, QUICK, Request, Running, Service, stamp
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.field_cases import (
    LEADING_ZEROS,
    NONE,
    Pads,
    field_entry,
    uids_of,
)
from dicom_assets_tests.support.steps import store_in, whole_run
from dicom_assets_tests.support.tables import NOW, contents, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicom_assets.feed import ChangeFeed
    from dicom_assets.tables.delta.snapshot import Store
    from dicom_assets_tests.support.entries import Json

SPACE: Final[Pads] = (" ", "", "")
SPACES: Final[Pads] = ("  ", " ", " ")
NULS: Final[Pads] = ("\0", "\0", " \0")
NEXT: Final = Window(WINDOW.end, WINDOW.end + TICKS_PER_HOUR)
MALFORMED: Final = "studyInstanceUid is missing or malformed"


@pytest.fixture
def service() -> Service:
    """A feed without entries."""
    return Service()


@pytest.fixture
def feed(service: Service) -> Iterator[ChangeFeed]:
    """A client of the service, over a socket."""
    with (
        Running(service) as running,
        feed_of(running.url, retry_seconds=5.0, timeouts=QUICK) as opened,
    ):
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root without tables."""
    return store_in(tmp_path)


def test_f39_a_padded_uid_is_the_uid(service: Service, feed: ChangeFeed, store: Store) -> None:
    """In the entry, in the header or in both; a UID of 64 characters with zeros stays as it is."""
    cases = [uids_of(number) for number in range(1, 17)] + [LEADING_ZEROS]
    pads = [*product((NONE, SPACE, SPACES, NULS), repeat=2), (SPACES, NULS)]
    for number, (uids, (shown, stored)) in enumerate(zip(cases, pads, strict=True), start=1):
        service.add(field_entry(number, uids=uids, entry_pads=shown, header_pads=stored))
    whole_run(store, WINDOW, feed, run())
    assert contents(store, REJECTED, "reason") == []
    keys = sorted(("Microsoft.Default", *uids) for uids in cases)
    for table in (CHANGE, INSTANCE, SERIES, STUDY):
        names = table.key if table is not CHANGE else INSTANCE.key
        assert sorted(contents(store, table, *names)) == [key[: len(names)] for key in keys]


def test_f39_two_forms_of_a_uid_are_one_instance(
    service: Service, feed: ChangeFeed, store: Store
) -> None:
    """Stored with a space, updated without, deleted with another."""
    uids = uids_of(1)
    replaced: Json = {"state": "Replaced", "metadata": None}
    service.add(field_entry(1, entry_pads=SPACES, **replaced))
    service.add(field_entry(2, uids=uids, header_pads=SPACE, action="Update"))
    whole_run(store, WINDOW, feed, run("r1"))
    assert contents(store, INSTANCE, *INSTANCE.key, "sequence") == [("Microsoft.Default", *uids, 2)]
    gone = field_entry(3, uids=uids, entry_pads=NULS, action="Delete", state="Deleted")
    service.add(gone | {"timestamp": stamp(NEXT.start)})
    whole_run(store, NEXT, feed, run("r2"))
    assert contents(store, INSTANCE, "sequence") == contents(store, STUDY, "sequence") == []


@pytest.mark.parametrize("blank", [" ", "\0", " \0 "])
def test_f39_a_uid_of_padding_only_is_malformed(
    service: Service, feed: ChangeFeed, store: Store, blank: str
) -> None:
    """And so is one with a space before it, or within, which no padding is."""
    for number, uid in enumerate([blank, " 1.2", "1. 2"], start=1):
        service.add(field_entry(number, studyInstanceUid=uid))
    service.add(field_entry(9))
    whole_run(store, WINDOW, feed, run())
    assert contents(store, REJECTED, "sequence", "reason") == [(n, MALFORMED) for n in (1, 2, 3)]
    assert contents(store, INSTANCE, "sequence") == [(9,)]


# --- after an upgrade -----------------------------------------------------------------------------


@pytest.fixture
def old(service: Service, feed: ChangeFeed, store: Store) -> Store:
    """Tables of an edition that could not read padding: three entries wait, and one is no use."""
    for number in (1, 2, 3):
        service.add(field_entry(number, entry_pads=SPACE, header_pads=SPACE))
    service.add(field_entry(4, studyInstanceUid="x"), field_entry(5))
    with pytest.MonkeyPatch.context() as earlier:
        for module in (commit, rejected):
            earlier.setattr(module, "READING_EDITION", "1")
        service.spoil = _strict
        whole_run(store, WINDOW, feed, run("old"))
        # Met again, so that they rest for many hours.
        for hour in (1, 3):
            whole_run(store, WINDOW, feed, run(f"old-{hour}", NOW + timedelta(hours=hour)))
    service.spoil = lambda _, rows: rows
    assert contents(store, REJECTED, "sequence", "reason") == [(n, MALFORMED) for n in (1, 2, 3, 4)]
    assert contents(store, INSTANCE, "sequence") == [(5,)]
    return store


def _strict(_: Request, rows: list[Json]) -> list[Json]:
    """A tab is no padding, so such a UID is read as a space was before."""
    return [row | {"studyInstanceUid": row["studyInstanceUid"].replace(" ", "\t")} for row in rows]


def test_entries_that_can_be_used_now_come_with_the_first_run_of_any_hour(
    service: Service, feed: ChangeFeed, old: Store
) -> None:
    """Though they rest. One that is still no use waits on, and is not asked for again."""
    upgraded = NOW + timedelta(hours=3, minutes=10)
    whole_run(old, NEXT, feed, run("new", upgraded))
    assert contents(old, INSTANCE, "sequence") == [(1,), (2,), (3,), (5,)]
    assert len(contents(old, STUDY, "studyInstanceUid")) == 4
    pause = rejected.pause_after(4)
    assert contents(old, REJECTED, "sequence", "attempts", "next_attempt") == [
        (4, 4, upgraded + pause)
    ]
    assert open_hours(old) == {}
    service.requests.clear()
    whole_run(old, NEXT, feed, run("later", upgraded + timedelta(minutes=10)))
    asked = {one.parameters.get("startTime", "") for one in service.requests}
    assert not any(stamp(HOUR + 4).startswith(start.removesuffix("Z")) for start in asked if start)
    assert contents(old, REJECTED, "sequence", "attempts") == [(4, 4)]


def test_when_there_are_many_their_hours_are_read_again(
    feed: ChangeFeed, old: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run reads some one by one; the schedule requests the hours of the rest at once."""
    monkeypatch.setattr(change, "RETRIED_AT_ONCE", 1)
    whole_run(old, NEXT, feed, run("new", NOW + timedelta(hours=3, minutes=10)))
    assert contents(old, INSTANCE, "sequence") == [(1,), (5,)]
    assert set(open_hours(old)) == {datetime_of(WINDOW.start)}
    whole_run(old, WINDOW, feed, run("next", NOW + timedelta(hours=3, minutes=11)))
    assert contents(old, INSTANCE, "sequence") == [(1,), (2,), (3,), (5,)]
    assert contents(old, REJECTED, "sequence") == [(4,)]
    assert open_hours(old) == {}
