"""How the tables look in Dagster: descriptions, column schemas, column lineage.

All of it sits on the definitions, derived from `schema`. On materializations it would be stored
again for every hour.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import dagster as dg
from dagster._utils.schedules import cron_string_iterator

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Column, Path, Table
from dicom_assets.window import HOUR

GROUP = "dicom"
OWNER = "team:dicom"
SERVICE = "dicom_service"
# The longest pause between ticks is looked for among so many of them: a week of every quarter.
_ANY_MONDAY, _TICKS = datetime(2024, 1, 1, tzinfo=UTC).timestamp(), 700
# As long as a run may take before somebody wonders.
_RUN = timedelta(minutes=20)

_GREEN = {
    CHANGE.name: (
        "The log of the service's change feed, one row per sequence. **A green hour**: every entry "
        "of the hour is in the log, and the hour is sealed in `sync`."
    ),
    INSTANCE.name: (
        "One row per live DICOM instance, as it stands now. **A green hour**: the table is at "
        "least as new as the hour; what was deleted is gone. Hours may run in any order, twice, "
        "or a year at a time."
    ),
    SERIES.name: (
        "One row per series with live instances, derived anew for every study that the hour "
        "touched. **A green hour**: these studies' series show the live instances."
    ),
    STUDY.name: (
        "One row per study with live instances, derived anew for every study that the hour "
        "touched. **A green hour**: these studies show the live instances."
    ),
}


def freshness_policy(schedule: str, delay: timedelta) -> dg.FreshnessPolicy:
    """Return until when Dagster's page calls an asset fresh: a tick may be missed, two may not.

    It looks at the newest materialization, whatever hour that is of; the check `freshness` is the
    truth. There is one each time that an hour has ended and a tick has come, whichever is rarer.
    """
    ticks = list(islice(cron_string_iterator(_ANY_MONDAY, schedule, "UTC"), _TICKS))
    rhythm = max(HOUR, *(later - tick for tick, later in pairwise(ticks)))
    expected = rhythm + delay + _RUN
    return dg.FreshnessPolicy.time_window(fail_window=expected + rhythm, warn_window=expected)


def described(table: Table, prefix: Sequence[str], location: str) -> dict[str, Any]:
    """Return what `dagster.asset` takes to show a table: text, kinds, schema, lineage, place."""
    return {
        "description": _GREEN[table.name],
        "group_name": GROUP,
        "owners": [OWNER],
        "kinds": {"deltalake", "dicom"},
        "metadata": {
            "dagster/uri": location,
            "dagster/column_schema": column_schema(table),
            "dagster/column_lineage": column_lineage(table, prefix),
        },
    }


def service_spec(prefix: Sequence[str], address: str, instance: Table = INSTANCE) -> dg.AssetSpec:
    """Return the DICOM service as an external asset; its columns are the attributes we read."""
    paths = {path.text: path for column in instance.columns for path in column.paths}
    columns = [
        dg.TableColumn(name, path.attribute.vr, description=_tag(path))
        for name, path in paths.items()
    ]
    return dg.AssetSpec(
        dg.AssetKey([*prefix, SERVICE]),
        description="The DICOM service: its change feed tells what was stored, updated, deleted.",
        group_name=GROUP,
        owners=[OWNER],
        kinds={"dicom"},
        metadata={
            "dagster/uri": address,
            "dagster/column_schema": dg.TableSchema(columns=columns),
        },
    )


def column_schema(table: Table) -> dg.TableSchema:
    """Return a table's columns as Dagster shows them, with the DICOM attribute as tags."""
    return dg.TableSchema(columns=[_column(column) for column in table.columns])


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        column.name, str(column.type), description=column.meaning, tags=column.known
    )


def _tag(path: Path) -> str:
    tags = (step.attribute.tag for step in path.steps)
    return " ".join(f"({tag[:4]},{tag[4:]})" for tag in tags)


def column_lineage(table: Table, prefix: Sequence[str]) -> dg.TableColumnLineage:
    """Return from which columns upstream each column is made."""
    origins = {column.name: _origins(table, column) for column in table.columns}
    return dg.TableColumnLineage(
        deps_by_column={
            name: [dg.TableColumnDep(dg.AssetKey([*prefix, asset]), source) for asset, source in of]
            for name, of in origins.items()
            if of
        }
    )


def _origins(table: Table, column: Column) -> list[tuple[str, str]]:
    if column.sources:
        return [(INSTANCE.name, source) for source in column.sources]
    if table.name == INSTANCE.name and column.name in _FROM_LOG:
        return [(CHANGE.name, _FROM_LOG[column.name])]
    return [(SERVICE, path.text) for path in column.paths] or _of_service(table, column)


def _of_service(table: Table, column: Column) -> list[tuple[str, str]]:
    return [(SERVICE, column.keyword)] if table.name == CHANGE.name and column.keyword else []


_FROM_LOG: Mapping[str, str] = {
    **{name: name for name in (*INSTANCE.key, "sequence", "filepath")},
    "lastModifiedTimestamp": "timestamp",
    "received_timestamp": "timestamp",
}
