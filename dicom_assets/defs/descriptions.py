"""The asset pages in Dagster: freshness, place, column schemas, column lineage.

All of it is part of the definitions, derived from `schema`. In the metadata of materializations it
would be stored again for every hour.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import dagster as dg
import pyarrow as pa
from dagster._utils.schedules import cron_string_iterator

from dicom_assets.defs.names import Names
from dicom_assets.schema import CHANGE, INSTANCE, Column, Table
from dicom_assets.settings import Settings
from dicom_assets.window import HOUR

# The ticks among which the longest pause is searched: a week of ticks every quarter of an hour.
_ANY_MONDAY, _TICKS = datetime(2024, 1, 1, tzinfo=UTC).timestamp(), 700
# The time that a run may take without a warning.
_RUN = timedelta(minutes=20)


def freshness_policy(settings: Settings) -> dg.FreshnessPolicy | None:
    """Return the policy by which Dagster's page calls an asset fresh: one tick may be missed.

    The policy takes the newest materialization, of any hour, so the check `freshness` is more
    exact. A materialization is expected after each tick at which another hour has ended. Return
    None when no further hours are read: then nothing gets old.
    """
    if settings.is_embedded or settings.end_time is not None:
        return None
    ticks = list(islice(cron_string_iterator(_ANY_MONDAY, settings.schedule, "UTC"), _TICKS))
    rhythm = max(HOUR, *(later - tick for tick, later in pairwise(ticks)))
    expected = rhythm + timedelta(minutes=settings.delay_minutes) + _RUN
    return dg.FreshnessPolicy.time_window(fail_window=expected + rhythm, warn_window=expected)


def described(
    spec: dg.AssetSpec,
    table: Table,
    names: Names,
    settings: Settings,
    partitions: dg.HourlyPartitionsDefinition,
) -> dg.AssetSpec:
    """Return the spec of a table's asset with its partitions and all that its page shows."""
    columns = [dg.TableColumn(c.name, _short(c.type), _line(c)) for c in table.columns]
    first, _, rest = table.description.partition(". ")
    *_, quality = path = names.quality_key.path
    return spec.replace_attributes(
        description=f"{first}. Its checks: [{quality}](/assets/{'/'.join(path)}).\n\n{rest}",
        partitions_def=partitions,
        freshness_policy=freshness_policy(settings),
        group_name=names.word,
        owners=[names.owner],
        kinds={"deltalake", "dicom"},
        metadata={
            "dagster/uri": settings.table_path(table.name),
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/column_lineage": column_lineage(table, names),
        },
    )


def _short(type_: pa.DataType) -> str:
    """Return a type as Delta calls it, without the parts of a map."""
    name = str(type_).partition("[")[0].partition("<")[0]
    return {"int64": "long", "int32": "integer", "date32": "date"}.get(name, name)


def _line(column: Column) -> str:
    """Return the meaning of a column, with keyword, tag and VR of its attribute, in one line."""
    if (a := column.attribute) is None:
        return column.meaning
    known = column.meaning if a.keyword in column.meaning else f"{a.keyword}: {column.meaning}"
    facts = rf"\g<0> ({a.tag[:4]},{a.tag[4:]}) {a.vr}"
    line = re.sub(rf"{a.keyword}(\[\d+\])?", facts, known, count=1)
    # The narrowest window has no room for what holds of most columns.
    return line.removesuffix(" as stored").replace(str(column.type), _short(column.type))


def service_spec(names: Names, address: str, instance: Table = INSTANCE) -> dg.AssetSpec:
    """Return the DICOM service as an external asset; its columns are the attributes we read."""
    columns = []
    for name, path in {p.text: p for column in instance.columns for p in column.paths}.items():
        tags = [step.attribute.tag for step in path.steps]
        text = " ".join(f"({tag[:4]},{tag[4:]})" for tag in tags)
        columns.append(dg.TableColumn(name, path.attribute.vr, description=text))
    return dg.AssetSpec(
        names.service_key,
        description="The DICOM service: its change feed lists what was stored, updated, deleted.",
        group_name=names.word,
        owners=[names.owner],
        kinds={"dicom"},
        metadata={"dagster/uri": address, "dagster/column_schema": dg.TableSchema(columns=columns)},
    )


def quality_spec(names: Names, tables: Sequence[dg.AssetKey]) -> dg.AssetSpec:
    """Return the external asset downstream of the tables that carries their checks.

    On a partitioned asset each check plans a row for every hour of a run.
    """
    return dg.AssetSpec(
        names.quality_key,
        deps=tables,
        description="The checks of the tables. They run by themselves, each hour or at night.",
        group_name=names.word,
        owners=[names.owner],
        kinds={"dicom"},
    )


def column_lineage(table: Table, names: Names) -> dg.TableColumnLineage:
    """Return the columns upstream from which each column is made."""
    deps = {}
    for column in table.columns:
        asset, sources = names.service, [path.text for path in column.paths]
        if column.sources:
            asset, sources = INSTANCE.name, list(column.sources)
        elif table.name == INSTANCE.name and column.name in _FROM_LOG:
            asset, sources = CHANGE.name, [_FROM_LOG[column.name]]
        elif table.name == CHANGE.name and column.keyword:
            sources = [column.keyword]
        if sources:
            deps[column.name] = [dg.TableColumnDep(names.key(asset), one) for one in sources]
    return dg.TableColumnLineage(deps_by_column=deps)


_FROM_LOG: Mapping[str, str] = {
    **{name: name for name in (*INSTANCE.key, "sequence", "filepath")},
    "lastModifiedTimestamp": "timestamp",
    "received_timestamp": "timestamp",
}
