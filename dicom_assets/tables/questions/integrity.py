"""Integrity of the tables: one row per key, no orphans, right counts in `series` and `study`.

SQL counts beside the files and only numbers come back, so that a table of ten million rows takes no
more memory than one of a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, SYNC, Table
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.retry import settle
from dicom_assets.tables.delta.snapshot import Store, literals
from dicom_assets.tables.sync import open_hours
from dicom_assets.window import TICKS_PER_HOUR, ticks_of

# The aggregates that count, and their columns in the comparison.
_COUNTS = {"count": "instanceCount", "count_distinct": "seriesCount"}
# Keys are compared in portions of about this many rows, which take 350 MB of memory.
ROWS_AT_ONCE = 1_000_000
# The portions are told apart by three hexadecimal digits.
_DIGITS, _PORTIONS = 3, 16**3


def duplicates(store: Store, table: Table) -> int:
    """Return the number of keys of a table that have several rows."""
    snapshot = store.open(table)
    if snapshot.delta is None:
        return 0
    portions, repeated = min(_PORTIONS, -(-snapshot.count() // ROWS_AT_ONCE)), 0
    for number in range(portions):
        where = _portion(table, number, portions)
        if table.name == REJECTED.name:
            where += ' AND "sequence" IS NOT NULL'  # entries without one are told apart by reason
        keys = f"SELECT 1 FROM t WHERE {where} GROUP BY {_names(table.key)} HAVING count(*) > 1"  # noqa: S608 - constants and escaped literals only
        repeated += ints(snapshot.query(f"SELECT count(*) AS n FROM ({keys})")["n"])[0]  # noqa: S608 - as above
    return repeated


def _portion(table: Table, number: int, portions: int) -> str:
    """Return the SQL condition of one portion's rows: by sequence, or a digest of study or hour."""
    if portions == 1:
        return "true"
    if "sequence" in table.key:
        return f'abs(coalesce("sequence", 0)) % {portions} = {number}'
    column = "hour" if "hour" in table.key else table.study_column
    digest = f"left(md5(coalesce(CAST(\"{column}\" AS VARCHAR), '')), {_DIGITS})"
    first, end = (f"{_PORTIONS * n // portions:0{_DIGITS}x}" for n in (number, number + 1))
    return f"{digest} >= '{first}'" + (f" AND {digest} < '{end}'" if number + 1 < portions else "")


@dataclass(frozen=True)
class Agreement:
    """Numbers of rows in a comparison of a derived table with the live rows of `instance`.

    `missing` rows are in `instance` only, `surplus` rows in the other table only, and `different`
    rows have other counts than `instance`. Studies of open hours are not compared. A table with a
    rule of its own need not have a row for each study: there only rows of studies without an
    instance count, as `surplus`.
    """

    compared: int = 0
    missing: int = 0
    surplus: int = 0
    different: int = 0

    @property
    def orphans(self) -> int:
        """The number of rows in one table that have none in the other."""
        return self.missing + self.surplus


def agreement(store: Store, table: Table) -> Agreement:
    """Compare a derived table with `instance`, again until neither changes meanwhile.

    A running run has changed one table and not yet the other. The marks of its hours are open until
    then, so that studies of open hours are left out.
    """

    def compare() -> Agreement:
        rollup, live, log = (store.open(t) for t in (table, INSTANCE, CHANGE))
        if rollup.delta is None or live.delta is None or log.delta is None:
            # Nothing is derived yet. The check of freshness reports that.
            return Agreement()
        counts = live.query(_comparison(store, table), r=rollup, c=log).to_pylist()[0]
        return Agreement(**{name: count or 0 for name, count in counts.items()})

    return settle(lambda: sum(store.version(t) for t in (table, INSTANCE, SYNC)), compare)[-1]


def _comparison(store: Store, table: Table) -> str:
    ours: tuple[str, ...] = INSTANCE.key[:2]
    there: tuple[str, ...] = (table.key[0], table.study_column)
    counts: list[tuple[str, str]] = []
    if table.derive is None:
        ours, there = INSTANCE.key[: len(table.key)], table.key
        aggregates = ((column.name, _COUNTS.get(str(column.aggregate))) for column in table.columns)
        shown = {*INSTANCE.key[: len(SERIES.key) + 1]}
        counts = [(n, c) for n, c in aggregates if c and {*table[n].sources} <= shown]
    # Studies of the hours that are open in one of the two tables are left out.
    needed = {INSTANCE.name, table.name}
    starts = (hour for hour, tables in open_hours(store).items() if needed & tables)
    hours = [ticks_of(hour) // TICKS_PER_HOUR for hour in starts]
    # An IN takes no empty list. -1 is neither an hour nor a sequence.
    open_, rejected = (literals(v or [-1]) for v in (hours, rejections.sequences(store)))
    series = _names(INSTANCE.key[: len(SERIES.key)])
    same = " AND ".join(f'l."{a}" = r."{b}"' for a, b in zip(ours, there, strict=True))
    differ = " OR ".join(f'(r."{n}" IS DISTINCT FROM l."{c}")' for n, c in counts) or "false"
    live, row = f'l."{ours[1]}"', f'r."{there[1]}"'
    missing = "false" if table.derive else f"{row} IS NULL"
    return f"""
        WITH by_series AS (SELECT {series}, count(*) AS n FROM t GROUP BY {series}),
        l AS (SELECT {_names(ours)}, sum(n) AS "instanceCount", count(*) AS "seriesCount"
              FROM by_series GROUP BY {_names(ours)}),
        moving AS (SELECT DISTINCT "studyinstanceuid" AS study FROM c
                   WHERE "timestamp_ticks" / {TICKS_PER_HOUR} IN ({open_})
                      OR "sequence" IN ({rejected}))
        SELECT count(*) AS compared,
               count(*) FILTER (WHERE {missing}) AS missing,
               count(*) FILTER (WHERE {live} IS NULL) AS surplus,
               count(*) FILTER (WHERE {live} = {row} AND ({differ})) AS different
        FROM l FULL JOIN r ON {same}
        LEFT JOIN moving ON moving.study = coalesce({live}, {row})
        WHERE moving.study IS NULL"""  # noqa: S608 - names of columns and numbers only


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
