"""What the tables promise of one another: one row per key, no orphans, counts that are true.

It is counted by SQL beside the files, and only numbers come back, so that a table of ten million
rows takes no more memory than one of a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.retry import settle
from dicom_assets.tables.delta.snapshot import Snapshot, Store, literals
from dicom_assets.tables.questions.audit import unfollowed
from dicom_assets.window import TICKS_PER_HOUR, ticks_of

# Each column of a rollup that counts live rows, by the name that it has in the comparison too.
_COUNTS = {SERIES.name: ("instanceCount",), STUDY.name: ("instanceCount", "seriesCount")}
KEYED = (CHANGE, INSTANCE, SERIES, STUDY)
# Keys are compared in portions of about so many rows: a million of them take 350 MB.
ROWS_AT_ONCE = 1_000_000
# The portions are told apart by three hexadecimal digits.
_DIGITS, _PORTIONS = 3, 16**3
_STUDY_COLUMN = "studyinstanceuid"


def duplicates(store: Store, table: Table) -> int:
    """Return how many keys of a table have several rows."""
    snapshot = store.open(table)
    if snapshot.delta is None:
        return 0
    portions = min(_PORTIONS, -(-snapshot.count() // ROWS_AT_ONCE))
    return sum(_repeated(snapshot, _portion(table, n, portions)) for n in range(portions))


def _repeated(snapshot: Snapshot, where: str) -> int:
    key = _names(snapshot.table.key)
    keys = f"SELECT 1 FROM t WHERE {where} GROUP BY {key} HAVING count(*) > 1"  # noqa: S608 - constants and escaped literals only
    return ints(snapshot.query(f"SELECT count(*) AS n FROM ({keys})")["n"])[0]  # noqa: S608 - as above


def _portion(table: Table, number: int, portions: int) -> str:
    """Return the condition of the rows of one portion, by their study or by their sequence."""
    if portions == 1:
        return "true"
    if table is CHANGE:
        return f'abs(coalesce("sequence", 0)) % {portions} = {number}'
    digest = f"left(md5(coalesce(\"{table.key[1]}\", '')), {_DIGITS})"
    first, end = (f"{_PORTIONS * n // portions:0{_DIGITS}x}" for n in (number, number + 1))
    return f"{digest} >= '{first}'" + (f" AND {digest} < '{end}'" if number + 1 < portions else "")


@dataclass(frozen=True)
class Agreement:
    """How `series` or `study` agrees with the live rows of `instance`, in rows of that table.

    `missing` are in `instance` only, `surplus` in the other table only, and `different` tell other
    counts than their rows. Studies of hours that are still on their way are not compared.
    """

    compared: int = 0
    missing: int = 0
    surplus: int = 0
    different: int = 0

    @property
    def orphans(self) -> int:
        """The rows of one table that have none in the other."""
        return self.missing + self.surplus


def agreement(store: Store, table: Table) -> Agreement:
    """Return how `series` or `study` agrees with `instance`, once neither moves.

    A run that is under way has changed one table and not yet the other. It has left the hour's
    marks open meanwhile; so the tables are compared at rest, without studies of open hours.
    """
    tables = (table, INSTANCE, SYNC)
    attempts = settle(
        lambda: sum(store.version(t) for t in tables), lambda: _compared(store, table)
    )
    return attempts[-1]


def _compared(store: Store, table: Table) -> Agreement:
    rollup, live, log = (store.open(t) for t in (table, INSTANCE, CHANGE))
    if rollup.delta is None or live.delta is None or log.delta is None:
        # Nothing to derive from, or nothing derived yet: how far hours have come is told elsewhere.
        return Agreement()
    found = live.query(_comparison(store, table), r=rollup, c=log).to_pylist()[0]
    return Agreement(**{name: count or 0 for name, count in found.items()})


def _comparison(store: Store, table: Table) -> str:
    ours, series = INSTANCE.key[: len(table.key)], _names(INSTANCE.key[: len(SERIES.key)])
    pairs = zip(ours, table.key, strict=True)
    same = " AND ".join(f'l."{here}" = r."{there}"' for here, there in pairs)
    counts = ((f'r."{name}"', f'l."{name}"') for name in _COUNTS[table.name])
    differ = " OR ".join(f"({told} IS DISTINCT FROM {true})" for told, true in counts)
    here, there = f'l."{ours[1]}"', f'r."{table.key[1]}"'
    return f"""
        WITH by_series AS (SELECT {series}, count(*) AS n FROM t GROUP BY {series}),
        l AS (SELECT {_names(ours)}, sum(n) AS "instanceCount", count(*) AS "seriesCount"
              FROM by_series GROUP BY {_names(ours)}),
        moving AS (SELECT DISTINCT "{_STUDY_COLUMN}" AS study FROM c WHERE {_is_moving(store)})
        SELECT count(*) AS compared,
               count(*) FILTER (WHERE {there} IS NULL) AS missing,
               count(*) FILTER (WHERE {here} IS NULL) AS surplus,
               count(*) FILTER (WHERE {here} = {there} AND ({differ})) AS different
        FROM l FULL JOIN r ON {same}
        LEFT JOIN moving ON moving.study = coalesce({here}, {there})
        WHERE moving.study IS NULL"""  # noqa: S608 - names of columns and numbers only


def _is_moving(store: Store) -> str:
    """Return the condition of the log's rows whose studies are still on their way."""
    hours = [ticks_of(hour) // TICKS_PER_HOUR for hour in unfollowed(store)]
    return (
        f'"timestamp_ticks" / {TICKS_PER_HOUR} IN ({_numbers(hours)}) '
        f'OR "sequence" IN ({_numbers(rejections.sequences(store))})'
    )


def _numbers(values: Sequence[int]) -> str:
    """Return whole numbers for an IN, which takes no empty list; -1 is neither hour nor number."""
    return literals(values or [-1])


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
