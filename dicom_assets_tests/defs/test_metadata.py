"""The metadata of a materialization: its hour's own numbers, and nothing large or wrong."""

import re
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from dicom_assets.defs.partitions import hour_key
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, Table
from dicom_assets.window import HOUR
from dicom_assets_tests.support.history import (
    FIRST,
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
OWN: Final = {"change": "entries", "instance": "instances", "series": "series", "study": "studies"}
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


@pytest.fixture(scope="module")
def followed(service: Service, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Told]:
    """Six hours one by one, and what each told."""
    made = world(service, tmp_path_factory.mktemp("followed"))
    told: Told = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in KEYS:
            told |= _told(made.run(key, instance=instance))
    return made, told


def _of_the_log(made: World, key: str) -> dict[str, int]:
    """The numbers of an hour, counted by hand from the rows of the log."""
    rows = [row for row in made.rows(CHANGE) if hour_key(row["timestamp"]) == key]
    keys = [tuple(row[name] for name in INSTANCE.key) for row in rows]
    distinct = {"instances": 4, "series": 3, "studies": 2}
    return {"entries": len(rows)} | {n: len({k[:d] for k in keys}) for n, d in distinct.items()}


def _expected(made: World, table: Table, key: str) -> dict[str, int]:
    """The numbers that an asset shows on an hour."""
    numbers = _of_the_log(made, key)
    shown = {"dagster/partition_row_count": numbers[OWN[table.name]], "entries": numbers["entries"]}
    return shown | {n: c for n, c in numbers.items() if n != OWN[table.name] and numbers["entries"]}


def _numbers(told: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in told.items() if isinstance(value, int)}


def _ranged(told: dict[str, Any]) -> dict[str, int]:
    return {n: value for n, value in _numbers(told).items() if n != "dagster/row_count"}


def test_the_numbers_of_an_hour_are_those_of_the_log(followed: tuple[World, Told]) -> None:
    """Entries, and different instances, series, studies; a table's own are its partition's rows."""
    made, told = followed
    for table, key in product(ASSETS, KEYS):
        assert _ranged(told[table.name, key]) == _expected(made, table, key)
    assert sum(_of_the_log(made, key)["entries"] for key in KEYS) == len(made.rows(CHANGE))
    assert _of_the_log(made, KEYS[QUIET_HOUR])["entries"] == 0


def test_a_second_run_and_a_range_show_the_same_plots(
    followed: tuple[World, Told], service: Service, tmp_path: Path
) -> None:
    """Dagster plots numbers, so none of an hour depends on the run. What it did is in words."""
    _, single = followed
    made = world(service, tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        first = _told(made.run(FIRST, LAST, instance=instance))
        second = _told(made.run(FIRST, LAST, instance=instance))
    for table, key in product(ASSETS, KEYS):
        at = table.name, key
        assert _ranged(first[at]) == _ranged(second[at]) == _ranged(single[at])
    for told, result in ((first, "applied"), (second, "unchanged")):
        done = [one["this run"] for one in told.values() if "this run" in one]
        assert any(result in words for words in done)


def test_only_the_last_hour_of_a_run_has_the_rows_of_the_table(
    service: Service, tmp_path: Path
) -> None:
    """They are those of the whole table, as it is after the run."""
    made = world(service, tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        told = _told(made.run(FIRST, LAST, instance=instance))
    for table in ASSETS:
        shown = {key: told[table.name, key].get("dagster/row_count") for key in KEYS}
        assert shown == {**dict.fromkeys(KEYS), LAST: len(made.rows(table))}


def test_an_hour_says_what_the_run_did_in_words(followed: tuple[World, Told]) -> None:
    """Entries by result, rows written, time and version, with their units and without nought."""
    _, told = followed
    hour = told[INSTANCE.name, FIRST]
    assert re.fullmatch(r"\d+ applied, \d+ unchanged", hour["this run"])
    assert re.fullmatch(r"\d+ new", hour["rows written"])
    assert re.fullmatch(r"\d+\.\d s \(plan .* s, read .* s, commit .* s\)", hour["time"])
    assert re.fullmatch(r"0 → 1", hour["table version"])
    assert re.fullmatch(r"\d+ pages, [\d.,]+ kB", hour["read"])
    assert re.fullmatch(r"\d+ creates", told[CHANGE.name, FIRST]["this run"])
    quiet = told[SERIES.name, KEYS[QUIET_HOUR]]
    assert quiet["rows written"] == "none"
    assert "this run" not in quiet


def test_no_value_is_a_boolean_or_an_empty_list(followed: tuple[World, Told]) -> None:
    """Each says something to a person."""
    values = [value for numbers in followed[1].values() for value in numbers.values()]
    assert not [value for value in values if isinstance(value, bool) or value in ("", [], None)]


def test_a_rejected_entry_is_counted(own_service: Service, tmp_path: Path) -> None:
    """A header of another instance is a fate too; the others of its hour land."""
    own_service.archive.store(header(1, sop=1), at=at(0, 1))
    own_service.archive.store(header(1, sop=2), at=at(0, 2))
    with closing(sqlite3.connect(own_service.archive.path)) as database, database:
        database.execute("UPDATE instance SET header = '{}' WHERE sop LIKE '%.2'")
    made = world(own_service, tmp_path / "tables")
    with dg.DagsterInstance.ephemeral() as instance:
        told = _told(made.run(FIRST, instance=instance))[INSTANCE.name, FIRST]
    assert (told["this run"], told["dagster/row_count"]) == ("1 applied, 1 rejected", 1)


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

    Dagster's own frame of its two events, planned and materialized, is 2 kB without data versions;
    the rest are the hour's numbers. In SQLite's pages an hour takes less room than with data
    versions and without numbers. Five years of hours of four assets stay near 1 GB in the two
    copies that SQLite keeps; with schema and lineage on each they would be 13 GB.
    """
    told, spent = two_days
    assert len(told) == TWO_DAYS * len(ASSETS)
    assert 0 < spent / len(told) < 3_072


def test_each_hour_of_a_long_range_tells_its_own(two_days: tuple[Told, int]) -> None:
    """Each of the 48 hours applied its one instance."""
    told, _ = two_days
    hours = [told[INSTANCE.name, hour_key(START + hour * HOUR)] for hour in range(TWO_DAYS)]
    assert [hour["this run"] for hour in hours] == ["1 applied"] * TWO_DAYS
    assert {hour["dagster/partition_row_count"] for hour in hours} == {1}
