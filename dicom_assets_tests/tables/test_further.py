"""A table more: created, filled, followed; and nothing of the others is different."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dicom_assets.errors import SettingsError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables import rejected, rollup
from dicom_assets.tables.catalogue import TABLES, catalogue
from dicom_assets.tables.delta.commit import FILLED
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.rollup import refill
from dicom_assets.tables.sync import (
    followed,
    marked_hours,
    marks_of,
    open_hours,
    showing,
    unfilled_tables,
)
from dicom_assets.window import Bounds, Window, datetime_of
from dicom_assets_tests.support.steps import derive, store_in
from dicom_assets_tests.support.tables import NOW, Bench, hours, key, run
from dicom_assets_tests.support.toy import TOY, WITH_TOY, expected

WHOLE = Window(hours(0).start, hours(1).end)
COLUMNS_OF_SYNC = [
    *("hour", "creates", "updates", "deletes", "rejected", "firstSequence", "lastSequence"),
    *("digest", "windowStart", "windowEnd", "sealedAt", "dataPartitions"),
    *("instanceAt", "seriesAt", "studyAt"),
]
OTHER = key("1", study="2")


def live_through(bench: Bench, *, with_toy: bool) -> None:
    """Two hours: a study of two instances loses one, another gets its second."""
    bench.archive.create(1)
    bench.archive.create(2, of=key("2"))
    bench.archive.create(3, of=OTHER)
    follow(bench, 0, with_toy=with_toy)
    bench.archive.create(61, of=key("2", study="2"))
    bench.archive.delete(62)
    follow(bench, 1, with_toy=with_toy)


def follow(bench: Bench, hour: int, *, with_toy: bool) -> None:
    """All tables follow an hour."""
    bench.sync(hours(hour))
    if with_toy:
        derive(bench.store, TOY, hours(hour), run())


def holds_what_it_must(store: Store) -> bool:
    """Return True if the toy shows the live rows of `instance`, and has rows."""
    rows = store.open(TOY).rows().to_pylist()
    rows.sort(key=lambda row: (row["partitionName"], row["studyInstanceUid"]))
    return bool(rows) and rows == expected(store.open(INSTANCE).rows().to_pylist())


@pytest.fixture
def before(tmp_path: Path) -> Bench:
    """A root that has followed two hours without the toy."""
    bench = Bench(store_in(tmp_path))
    live_through(bench, with_toy=False)
    return bench


@pytest.fixture
def added(before: Bench, tmp_path: Path) -> Bench:
    """The same root, with the toy switched on."""
    return Bench(store_in(tmp_path, WITH_TOY), before.archive)


def test_a_new_root_has_it_from_the_first_hour(tmp_path: Path) -> None:
    """It is created, follows, and owes hours like the others."""
    bench = Bench(store_in(tmp_path, WITH_TOY))
    live_through(bench, with_toy=True)
    assert holds_what_it_must(bench.store)
    assert unfilled_tables(bench.store) == []
    assert list(marks_of(bench.store)) == ["change", "instance", "series", "study", "toy"]
    assert len(followed(bench.store, Bounds(WHOLE))) == 2


def test_it_owes_no_hour_before_it_is_filled(added: Bench) -> None:
    """Else years of hours would be asked for; it may follow a new hour meanwhile."""
    assert unfilled_tables(added.store) == [TOY]
    assert (open_hours(added.store), len(followed(added.store, Bounds(WHOLE)))) == ({}, 2)
    added.archive.create(121, of=key("9"))
    follow(added, 2, with_toy=True)
    assert unfilled_tables(added.store) == [TOY]
    assert "toyAt" not in added.store.open(SYNC).column_names
    assert added.store.open(TOY).count() == 1, "the study of the new hour is derived"


def test_a_fill_needs_no_feed_and_marks_the_hours(added: Bench) -> None:
    """From `instance` alone; from then on the table owes hours, and no row counts as unfilled."""
    asked = len(added.archive.asked)
    refill(added.store, TOY, run())
    assert marked_hours(added.store)["toy"] == [datetime_of(hours(n).start) for n in (0, 1)]
    assert len(added.archive.asked) == asked
    assert holds_what_it_must(added.store)
    assert (unfilled_tables(added.store), open_hours(added.store)) == ([], {})
    assert all("toy" in showing(added.store, Bounds(WHOLE)) for _ in range(2))
    sync = added.store.open(SYNC).delta
    assert sync is not None
    assert [f.name for f in sync.schema().fields if f.metadata.get(FILLED)] == []


def test_a_fill_done_again_writes_nothing(added: Bench) -> None:
    """No version of the table, none of `sync`."""
    refill(added.store, TOY, run())
    versions = [added.store.version(table) for table in (TOY, SYNC)]
    refill(added.store, TOY, run())
    assert [added.store.version(table) for table in (TOY, SYNC)] == versions


def test_an_hour_that_comes_while_it_is_filled_is_owed(
    added: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its studies may have been derived before: it is not marked, so the schedule asks for it."""
    derive_all = rollup.rederive

    def overtaken(*given: object) -> object:
        outcome = derive_all(*given)  # type: ignore[arg-type]  # handed on
        added.archive.create(121, of=key("9", study="2"))
        follow(added, 2, with_toy=False)
        return outcome

    monkeypatch.setattr(rollup, "rederive", overtaken)
    refill(added.store, TOY, run())
    (owed,) = open_hours(added.store).values()
    assert owed == {"toy"}
    derive(added.store, TOY, hours(2), run())
    assert (open_hours(added.store), holds_what_it_must(added.store)) == ({}, True)


def test_it_follows_ranges(added: Bench) -> None:
    """After the fill: several hours at once, deletes included."""
    refill(added.store, TOY, run())
    added.archive.create(121, of=key("3"))
    added.archive.delete(185, of=OTHER)
    span = Window(hours(2).start, hours(3).end)
    added.sync(span)
    derive(added.store, TOY, span, run())
    assert holds_what_it_must(added.store)
    assert len(followed(added.store, Bounds(Window(WHOLE.start, span.end)))) == 4


def test_switched_off_and_on_again_it_owes_what_came_meanwhile(
    added: Bench, tmp_path: Path
) -> None:
    """A seal that changed takes its mark along, though nobody keeps the table then."""
    refill(added.store, TOY, run())
    off = Bench(store_in(tmp_path), added.archive)
    off.archive.create(5, of=key("4"))
    follow(off, 0, with_toy=False)
    off.archive.create(121, of=key("5"))
    follow(off, 2, with_toy=False)
    assert open_hours(off.store) == {}
    on = store_in(tmp_path, WITH_TOY)
    assert list(open_hours(on).values()) == [{"toy"}, {"toy"}]
    for hour in (0, 2):
        derive(on, TOY, hours(hour), run())
    assert (open_hours(on), holds_what_it_must(on)) == ({}, True)


def test_without_it_nothing_is_written_differently(tmp_path: Path) -> None:
    """No file, column or row of the others with it, and no column of `sync` without it."""
    plain, more = Bench(store_in(tmp_path / "plain")), Bench(store_in(tmp_path / "more", WITH_TOY))
    live_through(plain, with_toy=False)
    live_through(more, with_toy=True)
    for table in (CHANGE, INSTANCE, SERIES, STUDY):
        assert written(plain.store, table.name) == written(more.store, table.name)
    sync = plain.store.open(SYNC).delta
    assert sync is not None
    assert [field.name for field in sync.schema().fields] == COLUMNS_OF_SYNC
    for file in sync.file_uris():
        assert pq.read_schema(file).names == COLUMNS_OF_SYNC
    assert not (tmp_path / "plain" / "toy").exists()
    assert [table.name for table in TABLES if table.name == "sync" or table.mark] == [
        *("change", "sync", "instance", "series", "study")
    ]


def digest(file: Path) -> str:
    """The digest of a data file's columns and rows."""
    whole = pq.ParquetFile(file).read()
    rows = sorted(map(repr, whole.to_pylist()))
    return hashlib.sha256(f"{whole.schema.to_string()}{rows}".encode()).hexdigest()


def written(store: Store, name: str) -> tuple[list[str], list[dict[str, object]]]:
    """Return digests of the data files of a table, and its commits without times.

    The engine's merge writes the rows of a file in any order.
    """
    folder = Path(store.urls[name])
    files = [digest(file) for file in folder.rglob("*.parquet")]
    commits = [
        json.loads(line)
        for path in sorted((folder / "_delta_log").glob("*.json"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    told = [c["commitInfo"] for c in commits if "commitInfo" in c]
    notes = [info["dicom_assets"] for info in told if "dicom_assets" in info]
    schemas = [json.loads(c["metaData"]["schemaString"]) for c in commits if "metaData" in c]
    return sorted(files), [{"notes": notes, "schemas": schemas}]


def test_a_rejection_that_heals_before_the_fill_stays_until_the_table_has_seen_it(
    before: Bench, tmp_path: Path
) -> None:
    """Else no step of the table would count its study as touched."""
    before.archive.create(63, of=key("7", study="2"))
    healing = max(before.archive.entries_, key=lambda entry: str(entry["sequence"]))["sequence"]
    assert isinstance(healing, int)
    before.archive.unreadable = {healing: "header cannot be decoded"}
    before.sync(hours(1))
    bench = Bench(store_in(tmp_path, WITH_TOY), before.archive)
    bench.archive.unreadable = {}
    later = run(now=NOW + timedelta(hours=2))
    bench.change(hours(2), later)
    bench.instance(hours(2), later)
    for table in (SERIES, STUDY):
        bench.rollup(table, hours(2), later)
    assert rejected.sequences(bench.store) == [healing]
    derive(bench.store, TOY, hours(2), later)
    assert rejected.sequences(bench.store) == []
    refill(bench.store, TOY, later)
    assert holds_what_it_must(bench.store)


def test_an_hour_that_is_followed_again_while_it_is_filled_is_owed(
    added: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seal says the same as before; only the mark of `instance` is another."""
    derive_all = rollup.rederive

    def overtaken(*given: object) -> object:
        outcome = derive_all(*given)  # type: ignore[arg-type]  # handed on
        added.archive.expire(of=key("2"))
        added.sync(hours(0), run(now=NOW + timedelta(hours=1)))
        return outcome

    monkeypatch.setattr(rollup, "rederive", overtaken)
    refill(added.store, TOY, run())
    assert list(open_hours(added.store).values()) == [{"toy"}]
    derive(added.store, TOY, hours(0), run())
    assert (open_hours(added.store), holds_what_it_must(added.store)) == ({}, True)


def test_what_heals_while_it_is_switched_off_makes_it_owe_all_hours(
    added: Bench, tmp_path: Path
) -> None:
    """A rejection that is settled changes `instance`, and no seal."""
    refill(added.store, TOY, run())
    off = Bench(store_in(tmp_path), added.archive)
    off.archive.create(63, of=key("7", study="2"))
    healing = max(int(str(entry["sequence"])) for entry in off.archive.entries_)
    off.archive.unreadable = {healing: "header cannot be decoded"}
    follow(off, 1, with_toy=False)
    off.archive.unreadable = {}
    off.sync(hours(2), run(now=NOW + timedelta(hours=2)))
    on = store_in(tmp_path, WITH_TOY)
    assert list(open_hours(on).values()) == [{"toy"}] * 3
    for hour in range(3):
        derive(on, TOY, hours(hour), run())
    assert (open_hours(on), holds_what_it_must(on)) == ({}, True)


@pytest.mark.parametrize("mark", ["toyDone", "hour", "studyAt", "sealedAt"])
def test_a_mark_that_could_not_be_told_from_others_is_refused(mark: str) -> None:
    """At start, with an example."""
    with pytest.raises(SettingsError, match="such as toyAt"):
        catalogue((*TABLES, replace(TOY, mark=mark)))


def test_a_place_of_its_own_is_used_throughout(tmp_path: Path) -> None:
    """Root and storage options, by what commits and by what looks into the folder."""
    toy = replace(TOY, root=str(tmp_path / "other"), storage_options={"timeout": "7s"})
    store = store_in(tmp_path, (*TABLES, toy))
    assert store.options_of(toy)["timeout"] == "7s"
    assert Folder.of(store, toy).options["timeout"] == "7s"
    assert "timeout" not in Folder.of(store, STUDY).options
