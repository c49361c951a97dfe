"""A further table, as somebody would add one: a row for each study with several instances.

It is derived by a function of its own, and most studies have no row in it.
"""

from typing import Any

import pyarrow as pa

from dicom_assets.schema import INT64, STRING, Column, Table
from dicom_assets.schema.columns import PARTITION_COLUMN
from dicom_assets.tables.catalogue import TABLES

Rows = list[dict[str, Any]]


def derive(live: pa.Table, service_base: str | None) -> pa.Table:
    """The studies that have more than one live instance."""
    del service_base
    keys = ["partitionName", "studyinstanceuid"]
    groups = live.group_by(keys).aggregate([("sopinstanceuid", "count"), ("sequence", "max")])
    rows = [
        (*(row[key] for key in keys), row["sopinstanceuid_count"], row["sequence_max"])
        for row in groups.to_pylist()
        if row["sopinstanceuid_count"] > 1
    ]
    return pa.Table.from_arrays(
        [pa.array([row[n] for row in rows], c.type) for n, c in enumerate(TOY.columns)],
        schema=TOY.arrow(),
    )


TOY = Table(
    "toy",
    key=("partitionName", "studyInstanceUid"),
    columns=(
        Column("partitionName", STRING, "data partition of the DICOM service"),
        Column("studyInstanceUid", STRING, "StudyInstanceUID"),
        Column("instances", INT64, "live instances"),
        Column("sequence", INT64, "greatest sequence of a live instance"),
    ),
    description="One row per study with several instances. **A green hour**: as for `study`.",
    mark="toyAt",
    partition_column=PARTITION_COLUMN,
    derive=derive,
)
WITH_TOY = (*TABLES, TOY)


def expected(instances: Rows) -> Rows:
    """Return the rows that the table must have, by key, from rows of `instance` by plain Python."""
    studies: dict[tuple[str, str], list[int]] = {}
    for row in instances:
        key = (row["partitionName"], row["studyinstanceuid"])
        studies.setdefault(key, []).append(row["sequence"])
    return [
        dict(zip(TOY.names, (*key, len(sequences), max(sequences)), strict=True))
        for key, sequences in sorted(studies.items())
        if len(sequences) > 1
    ]
