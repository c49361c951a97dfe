"""Audit of closed hours: compare their seals with the entries that the service serves now.

An entry may become visible after its hour was read, or be lost to a page that shifted. So closed
hours are read again without headers. An hour that differs from its seal loses the seal, and the
schedule requests it again. The audit also counts instances that are overdue: `instance` has
followed the hour of their newest entry, which is older than OVERDUE_AFTER, and they still wait for
a later hour.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.feed_contract import Feed
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables import change as change_log
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables import sync as seals
from dicom_assets.tables.delta.arrow import distinct, filter_out, ints, pc
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, key_of, make_plan
from dicom_assets.window import Bounds, datetime_of, floor_hour, ticks_of

# An entry whose instance was replaced since is left to the hour of a later entry. That is in the
# feed by then, or something is wrong.
OVERDUE_AFTER = timedelta(hours=24)


@dataclass(frozen=True)
class Audit:
    """Numbers of hours and entries in an audit.

    `compared` hours had a seal, `unsealed` hours had none. `reopened` hours lost their seal,
    because their entries differ: `late` entries are in the service only, `lost` entries in the log
    only. `overdue` instances have waited for a later hour for more than a day.
    """

    compared: int
    unsealed: int
    reopened: tuple[datetime, ...]
    late: int
    lost: int
    overdue: int

    @property
    def passed(self) -> bool:
        """True when no hour differs from its seal, and no instance is overdue."""
        return not self.reopened and not self.lost and not self.overdue


def audit(
    store: Store,
    bounds: Bounds,
    feed: Feed,
    run: Run,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Remove the seal of every hour within bounds whose entries differ from it.

    The log may have rows of data partitions that are not kept any more. They are in the seals and
    not read, so they count as served. `progress` takes the number of entries read. Raises
    ServiceError when no answer comes.
    """
    window, columns = bounds.window, ["sequence", "timestamp_ticks", "action"]
    if window.start == window.end:
        return Audit(0, 0, (), 0, 0, 0)
    # Seals are read first: an hour that is sealed again meanwhile is only requested once more.
    sealed = seals.digests_of(store, bounds)
    change_log.require_archive(store.open(CHANGE), feed)
    entries = feed.entries(window, progress)
    known = change_log.rows_in(store.open(CHANGE), window, [*columns, "partitionName"])
    kept = bounds.partitions
    among = known["partitionName"] if kept is None else pa.array(sorted(kept), pa.string())
    unread = filter_out(known, "partitionName", among).select(columns)
    changes = pa.concat_tables([entries.changes.select(columns), unread])
    served = {h.start: h for h in seals.hours_of(window, changes, entries.rejections)}
    differing = [hour for hour, digest in sealed.items() if served[hour].digest != digest]
    logged = {h.start: set(ints(h.sequences)) for h in seals.hours_of(window, known, ())}
    rejected = set(rejections.sequences(store))
    now = {hour: set(ints(served[hour].sequences)) for hour in differing}
    late = Counter({hour: len(now[hour] - logged[hour] - rejected) for hour in differing})
    lost = Counter({hour: len(logged[hour] - now[hour]) for hour in differing})
    # Entries that are no longer served do not come back by reading again: a person has to look.
    differing = [hour for hour in differing if late[hour] or not lost[hour]]
    seals.reopen(store, differing, run)
    return Audit(
        compared=len(sealed),
        unsealed=len(served) - len(sealed),
        reopened=tuple(sorted(differing)),
        late=late.total(),
        lost=lost.total(),
        overdue=_overdue(store, bounds, run),
    )


def _overdue(store: Store, bounds: Bounds, run: Run) -> int:
    """Return the number of instances that wait for a later hour longer than OVERDUE_AFTER.

    They are in hours that `instance` shows. The marks are read first, because they come last.
    """
    shown = seals.showing(store, bounds)[INSTANCE.name]
    log = store.open(CHANGE)
    inside = change_log.rows_in(log, bounds.window, LOG_COLUMNS)
    studies = distinct(inside["studyinstanceuid"])
    history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
    stored = store.open(INSTANCE).rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    plan = make_plan(history, stored, pc.unique(key_of(inside)), rejections.sequences(store))
    before = ticks_of(run.now - OVERDUE_AFTER)
    waiting = (ticks for ticks in ints(plan.read["timestamp_ticks"]) if ticks < before)
    return sum(floor_hour(datetime_of(ticks)) in shown for ticks in waiting)
