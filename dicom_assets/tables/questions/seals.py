"""Comparison of the log with its seals, without a request: entries that are gone from `change`.

A seal counts the entries of its hour by action. It also has their least and greatest sequence, and
a digest of all. One query counts the same in the log for every hour. Digests take all sequences, so
some are compared each night, and each of them within NIGHTS nights.

No run makes a sealed hour differ: it only adds rows, and the hour loses its seal before. A sequence
that a seal has and the log lacks may wait in `rejected`. An hour that differs loses its seal, and
the schedule requests it again. Then its new seal is that of the log.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dicom_assets.schema import CHANGE, REJECTED, SYNC
from dicom_assets.tables import change, sync
from dicom_assets.tables.delta.arrow import ints, numbers
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.window import TICKS_PER_HOUR, TICKS_PER_MICROSECOND, Window, ticks_of

# Sequences are read in portions of about this many rows.
PORTION_ROWS = 200_000
# A small log is compared whole each night, a large one in this many nights.
NIGHTS = 30
_ACTIONS: Final = ("creates", "updates", "deletes")
# Hours of `sync` and times of the log, as ticks.
_HOUR, _START, _END = (
    f'CAST(s."{name}" AS BIGINT) * {TICKS_PER_MICROSECOND}'
    for name in ("hour", "windowStart", "windowEnd")
)
_COUNTS: Final = f"""
    SELECT s."hour" AS hour, count(*) AS rows,
           count(*) FILTER (WHERE t."action" = 'Create') AS creates,
           count(*) FILTER (WHERE t."action" = 'Update') AS updates,
           count(*) FILTER (WHERE t."action" = 'Delete') AS deletes,
           min(t."sequence") AS first, max(t."sequence") AS last
    FROM t JOIN s ON t."timestamp_ticks" / {TICKS_PER_HOUR} = {_HOUR} / {TICKS_PER_HOUR}
    WHERE s."sealedAt" IS NOT NULL
      AND t."timestamp_ticks" >= {_START} AND t."timestamp_ticks" < {_END}
    GROUP BY s."hour"
"""  # noqa: S608 - constants only
_NOTHING: Final = {"rows": 0, "creates": 0, "updates": 0, "deletes": 0, "first": None, "last": None}
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class SealComparison:
    """Numbers of hours and entries in a comparison of the log with its seals.

    Of the `compared` hours, `hashed` were compared by digest, too. `reopened` hours differed and
    lost their seals. `kept` hours differ and lie outside the bounds, where no run reads them. In
    both together at least `missing` entries are gone, and at least `surplus` were added by others.
    """

    compared: int
    hashed: int
    reopened: tuple[datetime, ...]
    kept: tuple[datetime, ...]
    missing: int
    surplus: int

    @property
    def passed(self) -> bool:
        """True when no hour differs from its seal."""
        return not self.reopened and not self.kept


def compare_seals(store: Store, bounds: Window, run: Run) -> SealComparison:
    """Remove the seals of the hours in the bounds whose entries are not all in the log.

    `sync` is opened before the log: its seals are never newer than the rows. `rejected` is opened
    between them, because an entry is added to the log before it leaves `rejected`.
    """
    opened = store.open(SYNC)
    sealed = _sealed(opened)
    waiting = defaultdict[int, set[int]](set)
    for row in store.open(REJECTED).rows(["sequence", "timestamp_ticks"]).drop_null().to_pylist():
        waiting[row["timestamp_ticks"] // TICKS_PER_HOUR].add(row["sequence"])
    log = store.open(CHANGE)
    is_empty = log.delta is None or opened.delta is None
    counts = {} if is_empty else {c["hour"]: c for c in log.query(_COUNTS, s=opened).to_pylist()}
    pairs = [(row, counts.get(hour, _NOTHING)) for hour, row in sealed.items()]
    differing = {row["hour"] for row, count in pairs if _differs(row, count, waiting)}
    hashed = 0
    for portion in _tonight([pair for pair in pairs if pair[0]["hour"] not in differing], run.now):
        hashed += len(portion)
        differing |= set(_other_digests(log, portion, waiting))
    # An hour that was sealed again meanwhile is compared the next time.
    now = _sealed(store.open(SYNC)) if differing else {}
    differing = {hour for hour in differing if now.get(hour) == sealed[hour]}
    hours = [hour for hour in differing if _meet(bounds, sync.sealed_window(sealed[hour]))]
    sync.reopen(store, hours, run)
    missing = [_missing(row, count) for row, count in pairs if row["hour"] in differing]
    surplus = [_surplus(row, count) for row, count in pairs if row["hour"] in differing]
    return SealComparison(
        compared=len(sealed),
        hashed=hashed,
        reopened=tuple(sorted(hours)),
        kept=tuple(sorted(differing.difference(hours))),
        missing=sum(missing),
        surplus=sum(surplus),
    )


def _sealed(opened: Snapshot) -> dict[datetime, _Row]:
    """Return the seals of `sync` by hour, ascending, without the marks of other tables."""
    rows = opened.rows(SYNC.names).sort_by("hour").to_pylist()
    return {row["hour"]: row for row in rows if row[CHANGE.mark] is not None}


def _meet(one: Window, other: Window) -> bool:
    return one.start < other.end and other.start < one.end


def _missing(row: _Row, count: _Row) -> int:
    return sum(max(row[name] - count[name], 0) for name in _ACTIONS)


def _surplus(row: _Row, count: _Row) -> int:
    """Return by how many rows the log has more than the seal, which counts rejected ones, too."""
    return int(max(count["rows"] - _entries(row), 0))


def _entries(row: _Row) -> int:
    return sum(row[name] for name in (*_ACTIONS, "rejected"))


def _differs(row: _Row, count: _Row, waiting: Mapping[int, set[int]]) -> bool:
    """Return True when the numbers of an hour show that rows are gone or were added."""
    first, last = row["firstSequence"], row["lastSequence"]
    if _missing(row, count) or _surplus(row, count):
        return True
    if first is None:
        return False
    known = waiting[_number(row)] | {count["first"], count["last"]} - {None}
    return not known or min(known) > first or max(known) < last


def _number(row: _Row) -> int:
    return ticks_of(row["hour"]) // TICKS_PER_HOUR


def _tonight(pairs: list[tuple[_Row, _Row]], now: datetime) -> Iterator[list[_Row]]:
    """Yield the seals whose digests are compared tonight, in portions of adjacent hours."""
    portions, rows = defaultdict[int, list[_Row]](list), 0
    for row, count in pairs:
        portions[rows // PORTION_ROWS].append(row)
        rows += count["rows"]
    listed = list(portions.values())
    turns = min(len(listed), NIGHTS)
    yield from listed[now.toordinal() % turns :: turns] if turns else ()


def _other_digests(
    log: Snapshot, portion: list[_Row], waiting: Mapping[int, set[int]]
) -> Iterator[datetime]:
    """Yield the hours with a sequence in their seals that neither log nor `rejected` has."""
    whole = Window(sync.sealed_window(portion[0]).start, sync.sealed_window(portion[-1]).end)
    rows = change.rows_in(log, whole, ["sequence", "timestamp_ticks"]).drop_null()
    sequences = defaultdict[int, set[int]](set)
    windows = {_number(row): sync.sealed_window(row) for row in portion}
    for sequence, ticks in zip(ints(rows["sequence"]), ints(rows["timestamp_ticks"]), strict=True):
        hour = ticks // TICKS_PER_HOUR
        if hour in windows and windows[hour].holds(ticks):
            sequences[hour].add(sequence)
    for row in portion:
        logged = sequences[_number(row)]
        known = logged | waiting[_number(row)]
        digests = (
            sync.Hour(sync.sealed_window(row), {}, numbers(sorted(s)), 0).digest
            for s in (logged, known)
        )
        # With more than the seal counts, `rejected` has entries that came after it.
        if row["digest"] not in digests and len(known) <= _entries(row):
            yield row["hour"]
