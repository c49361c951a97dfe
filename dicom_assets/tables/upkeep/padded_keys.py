"""Keys without padding, in tables that were taken over from Data Factory's template.

The template wrote UIDs as the service serves them, some with a space or a NUL at the end (PS3.5 6.2
pads UI with a NUL). Rows of this project never have padding, so such a row would stay beside the
one of the same instance.

Data files of `instance` that have such keys are rewritten, many in one commit. Of rows that become
one, the one with the greatest sequence stays, then the one modified last. The hour that newest
touched its study is opened again, and derives the study anew. Derived tables follow `instance`. A
run that ends anywhere is finished by the next one: the tables themselves say what is left.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

import pyarrow as pa

from dicom_assets.header.values import PADDING
from dicom_assets.schema import CHANGE, INSTANCE, Table
from dicom_assets.tables import sync
from dicom_assets.tables.delta.arrow import ints, pc, texts
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import Replacement, commit, data_files, pieces_of, rewrite
from dicom_assets.tables.delta.foreign import TAKEN_OVER_AT
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.rollup import derive_studies, study_sizes, study_slices
from dicom_assets.tables.upkeep.column_backfill import GROUP_BYTES, GROUP_ROWS
from dicom_assets.window import datetime_of, floor_hour

# The property of `instance` with the time since which no key of the root has padding.
STRIPPED: Final = "dicom_assets.keysStripped"
_UIDS: Final = INSTANCE.key[1:]


def bare(expression: str) -> str:
    """Return the SQL expression of a text without the padding at its end."""
    return f"rtrim({expression}, '{PADDING}')"


def is_padded(columns: Iterable[str]) -> str:
    """Return the SQL condition that one of some columns has padding at its end."""
    quoted = [f'"{name}"' for name in columns]
    return " OR ".join(f"{name} <> {bare(name)}" for name in quoted)


def is_due(store: Store) -> bool:
    """Return whether the root was taken over before keys were stripped."""
    instance = store.open(INSTANCE)
    return instance.property(TAKEN_OVER_AT) is not None and instance.property(STRIPPED) is None


def strip_all(store: Store, run: Run) -> Counter[str]:
    """Strip the keys of `instance` and all derived tables, and note that it was done.

    Returns the numbers of rows removed, data files rewritten and studies derived. Raises
    ConflictError when other runs keep committing.
    """
    derived = [table for table in store.tables.values() if table.is_derived]
    totals = Counter(rows_removed=0, files_written=0, studies=0)
    for table in (INSTANCE, *derived):
        totals.update(strip_keys(store, table, run))
    mark_stripped(store, run)
    return totals


def mark_stripped(store: Store, run: Run) -> None:
    """Note in `instance` that no key of the root has padding."""
    note = {"run_id": run.run_id, "properties": 1}
    moment = run.now.isoformat()
    converge(lambda: store.open(INSTANCE).set_property(STRIPPED, moment, note))


def strip_keys(store: Store, table: Table, run: Run) -> Counter[str]:
    """Strip the keys of one table; a derived one follows `instance`, whose keys are stripped."""
    totals = Counter[str]()
    if table.is_derived:
        totals["studies"] = _derive(store, table, run)
        return totals
    clean = set[str]()
    while converge(partial(_strip_part, store, clean, totals, run)):
        run.say(f"instance: stripped the keys of {totals['files_written']:,} data files")
    return totals


def _strip_part(store: Store, clean: set[str], totals: Counter[str], run: Run) -> bool:
    """Commit the next part on top of one version, and return whether there was one.

    `clean` are the files that are known to have no padded key.
    """
    snapshot = store.open(INSTANCE)
    if snapshot.delta is None:
        return False
    if len(doubles := snapshot.query(_DOUBLES)):
        _open_again(store, doubles, run)
        note = {"run_id": run.run_id, "padded": len(doubles)}
        snapshot.commit(Difference(INSTANCE, deletes=doubles), note)
        totals["rows_removed"] += len(doubles)
        return True
    if group := _group(snapshot, clean):
        commit(snapshot, group, {"run_id": run.run_id, "stripped": len(_UIDS)})
        totals["files_written"] += len(group)
    return bool(group)


def _group(snapshot: Snapshot, clean: set[str]) -> list[Replacement]:
    """Return rewritten files, enough for a commit."""
    group: list[Replacement] = []
    rows = size = 0
    for file in data_files(snapshot):
        # All columns of a file are read only if one of its keys has padding.
        if file.path not in clean and any(map(_stripped, pieces_of(snapshot, file, _UIDS))):
            if (written := rewrite(snapshot, file, _stripped, "part-")) is not None:
                group.append(written)
            rows, size = rows + (file.rows or 0), size + file.size
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                break
        else:
            clean.add(file.path)
    return group


def _stripped(piece: pa.RecordBatch) -> pa.RecordBatch | None:
    olds = [piece.column(name) for name in _UIDS]
    news = [pc.utf8_rtrim(old, PADDING) for old in olds]
    if all(new.equals(old) for new, old in zip(news, olds, strict=True)):
        return None
    return pa.RecordBatch.from_arrays(news, names=list(_UIDS))


_KEY: Final = ", ".join(f'"{name}"' for name in INSTANCE.key)
_STUDY, _SERIES, _SOP = (f'"{name}"' for name in _UIDS)
# The rows whose keys become those of better rows. Rows with the very same key are no matter here.
_DOUBLES: Final = f"""
    WITH keys AS (
        SELECT {_KEY}, max("sequence") AS "sequence", max("lastModifiedTimestamp") AS at FROM t
        WHERE {bare(_STUDY)} IN (SELECT {bare(_STUDY)} FROM t WHERE {is_padded(_UIDS)})
        GROUP BY {_KEY}),
    ranked AS (
        SELECT *, row_number() OVER (
            PARTITION BY "partitionName", {", ".join(map(bare, (_STUDY, _SERIES, _SOP)))}
            ORDER BY "sequence" DESC NULLS LAST, at DESC NULLS LAST,
                length({_STUDY} || {_SERIES} || {_SOP})) AS rank FROM keys)
    SELECT {_KEY}, "sequence" FROM ranked WHERE rank > 1
"""  # noqa: S608 - names of columns


def _open_again(store: Store, doubles: pa.Table, run: Run) -> None:
    """Open the newest hour of each study of the rows again, before they are removed."""
    studies = sorted({uid.rstrip(PADDING) for uid in texts(doubles["studyinstanceuid"])})
    log = store.open(CHANGE).rows_of("studyinstanceuid", studies)
    newest = log.group_by("studyinstanceuid").aggregate([("timestamp_ticks", "max")])
    hours = {floor_hour(datetime_of(ticks)) for ticks in ints(newest["timestamp_ticks_max"])}
    sync.reopen(store, hours, run)


def _derive(store: Store, table: Table, run: Run) -> int:
    """Derive the studies of padded rows anew, under both forms of their UIDs; return how many."""
    snapshot = store.open(table)
    if snapshot.delta is None:
        return 0
    uids = [n for n in {*table.key, table.study_column} if n.lower() in _UIDS]
    study = bare(f'"{table.study_column}"')
    sql = f"SELECT DISTINCT {study} AS study FROM t WHERE {is_padded(uids)}"  # noqa: S608 - columns
    padded = set(texts(snapshot.query(sql)["study"]))
    # The stripped form comes first: as long as a padded row is there, the next run finds it.
    sizes = sorted(study_sizes(store, table).items()) if padded else []
    due = {uid: size for uid, size in sizes if uid.rstrip(PADDING) in padded}
    for studies in study_slices(due):
        settle(
            partial(store.version, INSTANCE), partial(derive_studies, store, table, studies, run)
        )
    return len(padded)
