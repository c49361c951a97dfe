"""The audit: are the hours that we sealed what the service serves for them now?

An entry may become visible after its hour was read, or have been lost to a page that shifted. So
closed hours are read again without headers and compared with their seals; an hour that differs
loses its seal, and is asked for again. What became of the entries is looked at too: an instance
whose newest entry is a day old and still not in `instance` is reported.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.feed_contract import Feed
from dicom_assets.schema import CHANGE, INSTANCE, SYNC
from dicom_assets.tables import change as change_log
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables import sync as seals
from dicom_assets.tables.delta.arrow import distinct, ints, pc
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Difference, Store
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, key_of, make_plan
from dicom_assets.window import Window, ticks_of

PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    `compared` hours had a seal; `reopened` are those of them whose entries are no longer what was
    sealed, `late` and `lost` how many entries came or went; `unsealed` hours had none. `overdue`
    instances have been awaiting a later hour for more than a day.
    """

    compared: int
    unsealed: int
    reopened: tuple[datetime, ...]
    late: int
    lost: int
    overdue: int

    @property
    def passed(self) -> bool:
        """Whether the tables hold what the service serves."""
        return not self.reopened and not self.lost and not self.overdue


def audit(
    store: Store,
    window: Window,
    feed: Feed,
    run: Run,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Every hour of the window whose entries are not those of its seal has lost the seal."""
    if window.start == window.end:
        return Audit(0, 0, (), 0, 0, 0)
    # The seals first: an hour that is sealed anew meanwhile is only asked for once more.
    sealed = seals.sealed(store, window)
    change_log.require_archive(store.open(CHANGE), feed)
    entries = feed.entries(window, progress)
    served = {h.start: h for h in seals.hours_of(window, entries.changes, entries.rejections)}
    differing = [hour for hour, digest in sealed.items() if served[hour].digest != digest]
    late, lost = _moved(store, window, differing, served)
    # What is no longer served does not come back by reading again: a person has to look.
    differing = [hour for hour in differing if late[hour] or not lost[hour]]
    reopen(store, differing, run)
    return Audit(
        compared=len(sealed),
        unsealed=len(served) - len(sealed),
        reopened=tuple(sorted(differing)),
        late=late.total(),
        lost=lost.total(),
        overdue=_overdue(store, window, run),
    )


def _moved(
    store: Store, window: Window, differing: list[datetime], served: dict[datetime, seals.Hour]
) -> tuple[Counter[datetime], Counter[datetime]]:
    """Return how many entries of each differing hour the log lacks, and the service lacks."""
    known = change_log.rows_in(
        store.open(CHANGE), window, ["sequence", "timestamp_ticks", "action"]
    )
    logged = {hour.start: set(hour.sequences) for hour in seals.hours_of(window, known, ())}
    rejected = set(rejections.sequences(store))
    now = {hour: set(served[hour].sequences) for hour in differing}
    late = Counter({hour: len(now[hour] - logged[hour] - rejected) for hour in differing})
    return late, Counter({hour: len(logged[hour] - now[hour]) for hour in differing})


def reopen(store: Store, hours: list[datetime], run: Run) -> None:
    """The hours have no seal, so that they are asked for again."""

    def attempt() -> None:
        sync = store.open(SYNC)
        rows = sync.rows(["hour", "sealedAt"])
        held = rows.filter(pc.is_valid(rows["sealedAt"]))["hour"].to_pylist()
        marks = [{"hour": hour, "sealedAt": None} for hour in hours if hour in held]
        patch = pa.Table.from_pylist(marks, schema=SYNC.arrow(["hour", "sealedAt"]))
        sync.commit(Difference(SYNC, patches=patch), {"run_id": run.run_id})

    if hours:
        converge(attempt)


def unfollowed(store: Store) -> list[datetime]:
    """Return the hours that were read once and that not all tables show, in order.

    The audit has opened them, or a run has ended between the log and the last table.
    """
    return list(seals.lagging(store))


def _overdue(store: Store, window: Window, run: Run) -> int:
    """Return how many instances await a later hour although their newest entry is a day old."""
    log = store.open(CHANGE)
    inside = change_log.rows_in(log, window, LOG_COLUMNS)
    studies = distinct(inside["studyinstanceuid"])
    history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
    stored = store.open(INSTANCE).rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    known = rejections.sequences(store)
    plan = make_plan(history, stored, pc.unique(key_of(inside)), known)
    before = ticks_of(run.now - PATIENCE)
    return sum(ticks < before for ticks in ints(plan.read["timestamp_ticks"]))
