"""Everything that the report shows, from the tables alone.

`series` is read for nine weeks, in a few columns. All else are small tables, and numbers of logs.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from dicom_assets.schema import SYNC
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.arrivals import (
    DAY,
    Arrivals,
    Silence,
    Worse,
    arrivals,
    seen_hours,
    silent_devices,
    worse_columns,
)
from dicom_assets.tables.questions.freshness import Freshness, freshness_of
from dicom_assets.tables.questions.growth import TableSize, free_bytes, sizes
from dicom_assets.tables.rejected import WaitingReason, by_reason
from dicom_assets.window import HOUR, Bounds

# Four weeks: each weekday as often as the others.
DAYS = 28


@dataclass(frozen=True)
class TableState:
    """One table: its version, its rows, and its size on the storage."""

    version: int
    rows: int
    size: TableSize


@dataclass(frozen=True)
class ReportFacts:
    """The content of the report at the moment `now`, with times to be shown in `zone`.

    `months` has the images that came and went by month of UTC, as the feed tells. `pace` is the
    same for a day, None for an archive at rest. `free` are bytes, None when the tables do not lie
    on a disk.
    """

    now: datetime
    zone: ZoneInfo
    shown: Freshness
    came: Arrivals
    silent: list[Silence]
    worse: list[Worse]
    waiting: list[WaitingReason]
    tables: dict[str, TableState]
    months: dict[tuple[int, int], int]
    pace: float | None
    free: int | None

    def numbers(self) -> dict[str, int]:
        """Return the five numbers that tell whether a person has to look."""
        return {
            "hours_missing": self.shown.due - self.shown.followed,
            "entries_waiting": sum(one.count for one in self.waiting),
            "devices_silent": len(self.silent),
            "columns_worse": len(self.worse),
            "series_last_day": self.came.since(DAY).num_rows,
        }


def read_facts(
    store: Store, bounds: Bounds, zone: str | None, now: datetime, *, at_rest: bool = False
) -> ReportFacts:
    """Return the facts about the hours within bounds, which are all due (`freshness_of`)."""
    shown = freshness_of(store, bounds, now, at_rest=at_rest)
    until = now if shown.newest is None else shown.newest + HOUR
    came = arrivals(store, until, zone, compares=True)
    months, pace = _months(store, until)
    files = sizes(store)
    opened = {name: store.open(store.tables[name]) for name in files}
    return ReportFacts(
        now=now,
        zone=came.zone,
        shown=shown,
        came=came,
        silent=silent_devices(came, seen_hours(store, bounds, until)),
        worse=worse_columns(came),
        waiting=by_reason(store),
        tables={n: TableState(s.version, s.count(), files[n]) for n, s in opened.items()},
        months=months,
        pace=None if at_rest else pace,
        free=free_bytes(store),
    )


def _months(store: Store, until: datetime) -> tuple[dict[tuple[int, int], int], float]:
    months, recent = Counter[tuple[int, int]](), 0
    rows = store.open(SYNC).rows(["hour", "creates", "deletes"]).drop_null().to_pylist()
    for row in rows:
        net, hour = row["creates"] - row["deletes"], row["hour"]
        months[hour.year, hour.month] += net
        recent += net if hour >= until - DAYS * DAY else 0
    first = min((row["hour"] for row in rows), default=until)
    return dict(sorted(months.items())), recent / min(DAYS, max(1.0, (until - first) / DAY))
