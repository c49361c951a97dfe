"""`instance_report`: `instance` without headers, in files that Fabric's Direct Lake takes.

Direct Lake limits the row groups of a table. Those of `instance` are short, because each is written
from memory with its headers. This table is not among TABLES: who wants it declares it
(docs/use/fabric.md).
"""

import pyarrow as pa

from dicom_assets.schema import INSTANCE, Column, Table


def _derive(live: pa.Table, service_base: str | None) -> pa.Table:
    del service_base
    return live.select(INSTANCE_REPORT.names).cast(INSTANCE_REPORT.arrow())


INSTANCE_REPORT = Table(
    "instance_report",
    key=INSTANCE.key,
    columns=tuple(
        Column(
            c.name,
            c.type,
            c.meaning,
            c.attribute,
            sources=(c.name,),
            added=c.name not in INSTANCE.key,
        )
        for c in INSTANCE.columns
        if c.name not in {"metadata", "metadata_string", "created_date"}
    ),
    description=(
        "`instance` without headers, for reports. **A green hour**: the studies that the hour "
        "touched show the live instances."
    ),
    mark="instanceReportAt",
    partition_column=INSTANCE.partition_column,
    derive=_derive,
    # A file has half of it and more, so 200 million rows are at most 800 row groups.
    file_rows=500_000,
)
