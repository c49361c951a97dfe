"""The `series` and `study` tables follow `instance`: derived anew for every touched study.

Which studies a window touched, the log says, deletes included; what their rows are, the live rows
of `instance` say. A series or study without instances goes.
"""

from collections import Counter
from functools import reduce

import pyarrow as pa

from dicom_assets.errors import DoubledRowsError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Table
from dicom_assets.tables import change as change_log
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables.delta.arrow import distinct, texts
from dicom_assets.tables.delta.retry import Run, settle
from dicom_assets.tables.delta.snapshot import Difference, Snapshot, Store
from dicom_assets.tables.derived import columns_read, compare, roll_up
from dicom_assets.tables.outcome import Outcome, Stopwatch
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, is_gone, key_of, newest_of
from dicom_assets.tables.sync import seals_of
from dicom_assets.window import Window

_MARK = {SERIES.name: "seriesAt", STUDY.name: "studyAt"}
_STUDY_COLUMN = "studyInstanceUid"


def apply(store: Store, table: Table, window: Window, run: Run) -> Outcome:
    """The table shows the live instances of every study that the window touched."""
    found = seals_of(store, window)
    attempts = settle(lambda: store.version(INSTANCE), lambda: _attempt(store, table, window, run))
    found.mark(store, _MARK[table.name], run)
    _clear_settled(store, run)
    return reduce(Outcome.then, attempts)


def _attempt(store: Store, table: Table, window: Window, run: Run) -> Outcome:
    watch = Stopwatch()
    with watch.stage("plan"):
        target = store.open(table)
        studies = touched_studies(store, window)
        difference = difference_of(store, target, studies)
    with watch.stage("commit"):
        after = target.commit(difference, {"run_id": run.run_id, "window": str(window)})
    return Outcome(
        version_before=target.version,
        version_after=after,
        rows=store.open(table).count(),
        totals=Counter({**difference.counts(), "studies": len(studies)}),
        seconds=watch.seconds,
    )


def touched_studies(store: Store, window: Window) -> list[str]:
    """Return the UIDs of the studies that the window touched, and of those with rejections."""
    log = store.open(CHANGE)
    touched = change_log.rows_in(log, window, ["studyinstanceuid"])
    again = log.rows_of("sequence", rejections.sequences(store), ["studyinstanceuid"])
    return distinct(pa.concat_tables([touched, again])["studyinstanceuid"])


def difference_of(store: Store, target: Snapshot, studies: list[str]) -> Difference:
    """Return what makes the rows of some studies show their live instances."""
    # The target was opened before: what is derived here is newer than what it is compared with.
    existing = target.rows_of(_STUDY_COLUMN, studies)
    columns = columns_read(target.table)
    live = store.open(INSTANCE).rows_of("studyinstanceuid", studies, columns)
    _require_single(live, target.table)
    derived = roll_up(live, target.table, store.service_base)
    return compare(existing, derived, target.table)


def _require_single(live: pa.Table, table: Table) -> None:
    """Each instance has one row; a table that somebody has spoilt does not spread."""
    doubled = len(live) - len(live.group_by(list(INSTANCE.key)).aggregate([]))
    if doubled:
        raise DoubledRowsError(
            f"instance has {doubled} rows too many in the studies that the hours touched: "
            f"{table.name} was not derived from them and is as it was. Most likely somebody else "
            "has written to instance: look in its history for commits without the note "
            "dicom_assets, restore the version before them, and materialize the hours since then "
            "again"
        )


def _clear_settled(store: Store, run: Run) -> None:
    """Rejections whose entries all three tables show by now are cleared.

    Whichever of `series` and `study` comes last does it: before, the other's difference is left.
    """
    known = rejections.sequences(store)
    settled = _applied(store, known) if known else {}
    for study in sorted(set(settled.values())):
        targets = [store.open(table) for table in (SERIES, STUDY)]
        if all(difference_of(store, target, [study]).is_empty for target in targets):
            rejections.clear(store, [s for s, owner in settled.items() if owner == study], run)


def _applied(store: Store, sequences: list[int]) -> dict[int, str]:
    """Return the sequences that `instance` shows or has gone beyond, each with its study."""
    log = store.open(CHANGE)
    rows = log.rows_of("sequence", sequences, LOG_COLUMNS)
    studies = distinct(rows["studyinstanceuid"])
    newest = newest_of(log.rows_of("studyinstanceuid", studies, LOG_COLUMNS))
    gone = set(texts(key_of(newest.filter(is_gone(newest)))))
    stored = store.open(INSTANCE).rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    held = dict(zip(texts(key_of(stored)), stored["sequence"].to_pylist(), strict=True))
    keyed = zip(texts(key_of(rows)), rows.to_pylist(), strict=True)
    return {
        row["sequence"]: row["studyinstanceuid"]
        for key, row in keyed
        if (key in gone and key not in held) or _reaches(held.get(key), row["sequence"])
    }


def _reaches(held: int | None, sequence: int) -> bool:
    return held is not None and held >= sequence
