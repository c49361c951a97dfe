"""Assets downstream get the rows that their hours touched, as they are now."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets.defs.partitions import hourly
from dicom_assets.schema import CHANGE, INSTANCE, STUDY, Table
from dicom_assets_tests.support.history import (
    END,
    ENTRIES,
    FIRST,
    KEYS,
    LAST,
    NAME,
    QUIET_HOUR,
    START,
    sop_uid,
    study_uid,
)
from dicom_assets_tests.support.names import IO_MANAGER_KEY
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, materialize, world

HOURLY = hourly(START, END)


@dataclass(frozen=True)
class Hours:
    """For which partitions an asset of theirs is materialized; none for an unpartitioned one."""

    first: str | None = None
    last: str | None = None
    partitions: dg.PartitionsDefinition[str] | None = HOURLY


WHOLE = Hours(partitions=None)


def _given(
    made: World, table: Table, kind: object, hours: Hours, columns: Sequence[str] = ()
) -> Any:  # noqa: ANN401 - whatever the input's annotation asks for
    """Return the input of a downstream asset of that type, for its hours."""
    got: list[object] = []

    def theirs(rows: object) -> None:
        got.append(rows)

    theirs.__annotations__["rows"] = kind
    metadata = {"columns": list(columns)} if columns else None
    asset = dg.asset(
        ins={"rows": dg.AssetIn(table.name, metadata=metadata)},
        partitions_def=hours.partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if hours.partitions else None,
    )(theirs)
    materialize(
        [made.definitions, dg.Definitions(assets=[asset])],
        hours.first,
        hours.last,
        selection=dg.AssetSelection.assets("theirs"),
    )
    (rows,) = got
    return rows


def _sops(rows: pa.Table) -> list[str]:
    return sorted(str(uid) for uid in rows["sopinstanceuid"].to_pylist())


def test_an_hour_gets_exactly_the_rows_it_touched_as_they_stand_now(filled: World) -> None:
    """Of five instances stored in the first hour, three live; two show a later update."""
    rows = _given(filled, INSTANCE, pa.Table, Hours(FIRST))
    assert rows.schema.equals(INSTANCE.arrow())
    alive = [sop_uid(1, 1, 2), sop_uid(1, 2, 1), sop_uid(2, 1, 1)]
    assert _sops(rows) == alive
    names = Counter(rows["patientname"].to_pylist())
    assert names == {f"{NAME}^Second": 2, f"{NAME}^Reborn": 1}


def test_an_hour_of_deletes_gets_what_lives_again(filled: World) -> None:
    """Hour 3 deleted an instance for good, and one that was stored again later."""
    rows = _given(filled, INSTANCE, pa.Table, Hours(KEYS[3]))
    assert _sops(rows) == [sop_uid(2, 1, 1)]


def test_a_quiet_hour_gets_no_row_but_every_column(filled: World) -> None:
    """An hour without entries touched nothing."""
    rows = _given(filled, INSTANCE, pa.Table, Hours(KEYS[QUIET_HOUR]))
    assert (rows.num_rows, rows.column_names) == (0, INSTANCE.names)


def test_a_range_gets_the_rows_of_its_hours_once(filled: World) -> None:
    """Two hours that touched the same instances give each of them once."""
    rows = _given(filled, INSTANCE, pa.Table, Hours(KEYS[0], KEYS[1]))
    assert _sops(rows) == [
        sop_uid(1, 1, 2),
        sop_uid(1, 2, 1),
        sop_uid(2, 1, 1),
        sop_uid(3, 1, 1),
    ]


def test_a_day_gets_the_rows_of_its_hours(filled: World, service: Service) -> None:
    """A daily asset gets what the 24 hours of its day touched."""
    day = timedelta(days=1)
    whole = world(service, Path(filled.settings.tables_root), end_time=START + day)
    daily = dg.DailyPartitionsDefinition(START, end_date=START + day, timezone="UTC")
    rows = _given(whole, INSTANCE, pa.Table, Hours("2024-03-01", partitions=daily))
    assert _sops(rows) == sorted(str(row["sopinstanceuid"]) for row in filled.rows(INSTANCE))


def test_studies_of_an_hour_are_those_it_touched(filled: World) -> None:
    """Hour 5 touched studies 1 and 3, with the counts of now."""
    rows = _given(filled, STUDY, pa.Table, Hours(LAST)).to_pylist()
    counts = {row["studyInstanceUid"]: row["instanceCount"] for row in rows}
    assert counts == {study_uid(1): 2, study_uid(3): 1}


def test_changes_of_an_hour_are_its_entries(filled: World) -> None:
    """The log's rows of the hour, tombstones of expiry not counted as entries."""
    rows = _given(filled, CHANGE, pa.Table, Hours(KEYS[3]))
    assert rows.num_rows == ENTRIES[3].total()


def test_without_partitions_the_whole_table(filled: World) -> None:
    """An Arrow table of all rows, or the lazy Delta table, or a stream: as annotated."""
    whole = filled.rows(INSTANCE)
    rows = _given(filled, INSTANCE, pa.Table, WHOLE)
    assert _sops(rows) == sorted(str(row["sopinstanceuid"]) for row in whole)
    lazy = _given(filled, INSTANCE, DeltaTable, WHOLE)
    assert isinstance(lazy, DeltaTable)
    assert lazy.version() == filled.versions()[INSTANCE.name]
    stream = _given(filled, INSTANCE, pa.RecordBatchReader, WHOLE)
    assert stream.read_all().num_rows == len(whole)


def test_without_annotation_an_arrow_table(filled: World) -> None:
    """An input that says nothing gets what most can use."""
    assert isinstance(_given(filled, INSTANCE, Any, Hours(FIRST)), pa.Table)


@pytest.mark.parametrize("hours", [Hours(FIRST), Hours(FIRST, LAST)], ids=["hour", "range"])
def test_columns_on_the_input_select(filled: World, hours: Hours) -> None:
    """`columns` in the metadata of the input reads no other column."""
    names = ["sequence", "modality"]
    rows = _given(filled, INSTANCE, pa.Table, hours, names)
    assert sorted(rows.column_names) == sorted(names)
    assert set(rows["modality"].to_pylist()) == {"CT"}


def test_columns_on_an_unpartitioned_input_select(filled: World) -> None:
    """The same for the whole table."""
    rows = _given(filled, INSTANCE, pa.Table, WHOLE, ["sequence"])
    assert rows.column_names == ["sequence"]
    assert rows.num_rows == len(filled.rows(INSTANCE))


@pytest.mark.parametrize(
    "made",
    [lambda: pa.table({"a": [1]}), lambda: "text", lambda: {"a": 1}],
    ids=["arrow", "text", "dict"],
)
def test_what_is_not_ours_is_refused_with_the_remedy(
    filled: World, made: Callable[[], object]
) -> None:
    """An asset of theirs through our IO manager fails, told to take another one."""

    @dg.asset(io_manager_key=IO_MANAGER_KEY)
    def theirs():  # type: ignore[no-untyped-def]  # noqa: ANN202 - as many write it
        return made()

    before = filled.versions()
    result = materialize(
        [filled.definitions, dg.Definitions(assets=[theirs])],
        selection=dg.AssetSelection.assets("theirs"),
        raise_on_error=False,
    )
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure)
    error = failure.step_failure_data.error
    assert error is not None
    assert "another io_manager_key" in error.to_string()
    assert filled.versions() == before
