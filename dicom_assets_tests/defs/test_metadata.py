"""The metadata of a materialization: its hour's own numbers, and nothing large or wrong."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from dicom_assets.defs.partitions import hour_key
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY
from dicom_assets.window import HOUR
from dicom_assets_tests.support.history import (
    ENTRIES,
    FIRST,
    HOURS,
    KEYS,
    LAST,
    QUIET_HOUR,
    START,
    at,
    header,
)
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import ASSETS, World, world

Told = dict[tuple[str, str], dict[str, Any]]
FATES: Final = ("applied", "deleted", "superseded", "unchanged", "rejected", "awaiting")
TWO_DAYS: Final = 48


def _told(result: dg.ExecuteInProcessResult) -> Told:
    """The metadata of each materialization, by table and hour."""
    found = [event.step_materialization_data for event in result.get_asset_materialization_events()]
    return {
        (one.materialization.asset_key.path[-1], str(one.materialization.partition)): {
            name: value.value for name, value in one.materialization.metadata.items()
        }
        for one in found
    }


def _fetched(told: dict[str, Any]) -> int:
    names = ("creates", "updates", "deletes", "rejected")
    return sum(told.get(name, 0) for name in names)


@pytest.fixture(scope="module")
def followed(service: Service, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Told]:
    """Six hours one by one, and what each told."""
    made = world(service, tmp_path_factory.mktemp("followed"))
    told: Told = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in KEYS:
            told |= _told(made.run(key, instance=instance))
    return made, told


def test_an_hour_tells_its_entries_by_action(followed: tuple[World, Told]) -> None:
    """`change` counts the creates, updates and deletes of the hour, and what was rejected."""
    _, told = followed
    names = {"creates": "Create", "updates": "Update", "deletes": "Delete"}
    for key, entries in zip(KEYS, ENTRIES, strict=True):
        numbers = told[CHANGE.name, key]
        assert {action: numbers[name] for name, action in names.items()} == {
            action: entries[action] for action in names.values()
        }
        assert numbers["rejected"] == 0
        assert numbers.get("inserts", 0) == entries.total()


def test_every_entry_has_one_fate(followed: tuple[World, Told]) -> None:
    """Fetched = applied + deleted + superseded + unchanged + rejected + awaiting, hour by hour."""
    _, told = followed
    for key in KEYS:
        fates = sum(told[INSTANCE.name, key].get(fate, 0) for fate in FATES)
        assert fates == _fetched(told[CHANGE.name, key]), key


def test_an_hour_tells_what_it_cost_and_left(followed: tuple[World, Told]) -> None:
    """Rows, version, pages, bytes and seconds are there, the last ones as the tables have them."""
    made, told = followed
    for table in ASSETS:
        numbers = [told[table.name, key] for key in KEYS]
        assert numbers[-1]["version"] == made.versions()[table.name]
        assert numbers[-1]["rows"] == len(made.rows(table)) == numbers[-1]["dagster/row_count"]
        assert all(n["seconds"] >= n["seconds_commit"] >= 0 for n in numbers)
    for table in (CHANGE, INSTANCE):
        assert told[table.name, FIRST]["pages"] > 0
        assert told[table.name, FIRST]["bytes"] > 0


def test_the_versions_chain_from_hour_to_hour(followed: tuple[World, Told]) -> None:
    """`version_before` is the version that the hour before left, and a write raises it."""
    _, told = followed
    for table in ASSETS:
        numbers = [told[table.name, key] for key in KEYS]
        assert [n["version_before"] for n in numbers[1:]] == [n["version"] for n in numbers[:-1]]


def test_rows_written_are_counted_by_kind(followed: tuple[World, Told]) -> None:
    """Inserts less deletes over all hours are the rows that are left."""
    made, told = followed
    for table in (INSTANCE, SERIES, STUDY):
        total = Counter[str]()
        for key in KEYS:
            kinds = ("inserts", "updates", "deletes", "patches")
            total.update({kind: told[table.name, key].get(kind, 0) for kind in kinds})
        assert total["inserts"] - total["deletes"] == len(made.rows(table)), table.name


def test_a_quiet_hour_is_told_as_such(followed: tuple[World, Told]) -> None:
    """An hour without entries counts nought, and leaves the rows as they were."""
    _, told = followed
    quiet, before = KEYS[QUIET_HOUR], KEYS[QUIET_HOUR - 1]
    assert _fetched(told[CHANGE.name, quiet]) == 0
    assert told[CHANGE.name, quiet]["creates"] == 0
    for table in ASSETS:
        assert told[table.name, quiet]["rows"] == told[table.name, before]["rows"]


def test_a_rejected_entry_is_counted(own_service: Service, tmp_path: Path) -> None:
    """A header of another instance is a fate too; the others of its hour land."""
    own_service.archive.store(header(1, sop=1), at=at(0, 1))
    own_service.archive.store(header(1, sop=2), at=at(0, 2))
    with closing(sqlite3.connect(own_service.archive.path)) as database, database:
        database.execute("UPDATE instance SET header = '{}' WHERE sop LIKE '%.2'")
    made = world(own_service, tmp_path / "tables")
    with dg.DagsterInstance.ephemeral() as instance:
        told = _told(made.run(FIRST, instance=instance))[INSTANCE.name, FIRST]
    assert (told["applied"], told["rejected"], told["rows"]) == (1, 1, 1)


def test_in_a_range_each_hour_has_its_own_numbers_or_none(
    followed: tuple[World, Told], service: Service, tmp_path: Path
) -> None:
    """No hour of a ranged run shows the range's total."""
    _, single = followed
    made = world(service, tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        ranged = _told(made.run(FIRST, LAST, instance=instance))
    assert len(ranged) == HOURS * len(ASSETS)
    for key in KEYS:
        expected = _fetched(single[CHANGE.name, key])
        assert _fetched(ranged[CHANGE.name, key]) == expected
        assert sum(ranged[INSTANCE.name, key].get(fate, 0) for fate in FATES) == expected
        counted = {*FATES, "creates", "updates", "deletes"}
        for table in ASSETS:
            assert set(ranged[table.name, key]) <= counted, "a number of the run on an hour"


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, int]:
    """The metadata of a run over 48 hours, an instance in each, and the bytes of its event log."""
    archive = Archive(tmp_path_factory.mktemp("two-days"))
    for hour in range(TWO_DAYS):
        archive.store(header(hour), at=at(hour))
    end = START + TWO_DAYS * HOUR
    with serving(archive) as service, dg.DagsterInstance.ephemeral() as instance:
        made = world(service, tmp_path_factory.mktemp("tables"), end_time=end)
        result = made.run(FIRST, hour_key(end - HOUR), instance=instance)
        events = instance.all_logs(result.run_id)
        return _told(result), sum(len(serialize_value(event)) for event in events)


def test_no_schema_lineage_or_query_is_on_a_materialization(
    two_days: tuple[Told, int], followed: tuple[World, Told]
) -> None:
    """They stand on the definition once; the base's "Query" nobody runs stands nowhere."""
    for told in (two_days[0], followed[1]):
        names = {name.lower() for numbers in told.values() for name in numbers}
        assert not names & {"query", "dagster/column_schema", "dagster/column_lineage"}
        assert not any("schema" in name or "lineage" in name for name in names)


def test_the_event_log_of_a_range_stays_small(two_days: tuple[Told, int]) -> None:
    """An hour of an asset costs less than 3 kB of event log.

    Dagster's own frame of its two events, planned and materialized, is 2.4 kB; the rest are the
    hour's numbers. Five years of hours of four assets stay near 1 GB in the two copies that SQLite
    keeps; with schema and lineage on each they would be 13 GB.
    """
    told, spent = two_days
    assert len(told) == TWO_DAYS * len(ASSETS)
    assert 0 < spent / len(told) < 3_072


def test_each_hour_of_a_long_range_tells_its_own(two_days: tuple[Told, int]) -> None:
    """Each of the 48 hours applied its one instance, and says that nothing else came to pass."""
    told, _ = two_days
    applied = [told[INSTANCE.name, hour_key(START + hour * HOUR)] for hour in range(TWO_DAYS)]
    nought = dict.fromkeys(("deleted", "superseded", "unchanged", "rejected", "awaiting"), 0)
    assert applied == [{"applied": 1, **nought}] * TWO_DAYS
