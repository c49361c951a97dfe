"""Dates that lie in the future: a scanner whose clock is wrong, or a value typed in by hand."""

from collections import Counter
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.schema import DATE, INSTANCE, TIMESTAMP
from dicom_assets.tables.delta.snapshot import Store

# A clock may be wrong by hours, and the day begins elsewhere first.
GRACE = timedelta(days=1)


def future(store: Store, now: datetime) -> Counter[str]:
    """Return by column of `instance` how many rows have a date more than a day after a moment."""
    snapshot = store.open(INSTANCE)
    columns = {
        c.name: c.type for c in snapshot.table.columns if c.paths and c.name in snapshot.held
    }
    dated = {name: _bound(kind, now + GRACE) for name, kind in columns.items() if _is_date(kind)}
    if snapshot.delta is None:
        return Counter()
    counts = ", ".join(
        f'count(*) FILTER (WHERE "{name}" > {bound}) AS "{name}"' for name, bound in dated.items()
    )
    late = " OR ".join(f'"{name}" > {bound}' for name, bound in dated.items())
    (found,) = snapshot.query(f"SELECT {counts} FROM t WHERE {late}").to_pylist()  # noqa: S608 - names of columns and a moment
    return Counter({name: count for name, count in found.items() if count})


def _is_date(kind: pa.DataType) -> bool:
    return kind in {DATE, TIMESTAMP}


def _bound(kind: pa.DataType, moment: datetime) -> str:
    return f"DATE '{moment:%Y-%m-%d}'" if kind == DATE else f"TIMESTAMP '{moment.isoformat()}'"
