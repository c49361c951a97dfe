"""Derive a table again for all studies, in slices of bounded size.

A run for hours derives the studies that its hours touched. Columns that were added or filled change
every study, and a table that was added lacks every study. The slices keep memory bounded, however
many studies there are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from typing import Any

from dicom_assets.schema import INSTANCE, SYNC, Table
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import Store, add_mark, mark_filled
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch
from dicom_assets.tables.rollup import difference_of
from dicom_assets.tables.sync import all_seals

# Instances whose columns are read at once.
SLICE_INSTANCES = 200_000


def rederive(store: Store, table: Table, run: Run) -> Outcome:
    """Derive every row from the live instances, delete all others, mark all columns as filled."""
    sizes = study_sizes(store, table)
    progress = Progress(run.say, f"{table.name}: derived {{}} of {len(sizes):,} studies")
    outcome = derive_studies(store, table, [], run)
    done = 0
    for studies in study_slices(sizes):
        derive = partial(derive_studies, store, table, studies, run)
        attempts = settle(partial(store.version, INSTANCE), derive)
        outcome = reduce(Outcome.then, attempts, outcome)
        done += len(studies)
        progress(done)
    converge(lambda: mark_filled(store.open(table), store.tables[table.name].names, run))
    return outcome


def refill(store: Store, table: Table, run: Run) -> Outcome:
    """Fill an added table from `instance` alone, and mark the hours that it has followed then.

    From then on the table owes hours. An hour that `instance` follows meanwhile is not marked,
    because its studies may have been derived before.
    """
    seals = all_seals(store)
    outcome = rederive(store, table, run)
    converge(lambda: add_mark(store.open(SYNC), store.tables[SYNC.name][table.mark]))
    seals.mark(store, table.mark, run)
    return outcome


def study_sizes(store: Store, table: Table) -> dict[str, int]:
    """Return the number of instances of each study that `instance` or a table has."""
    listed: list[Any] = store.open(table).counts(table.study_column)[table.study_column].to_pylist()
    live = store.open(INSTANCE).counts("studyinstanceuid")
    living: list[Any] = live["studyinstanceuid"].to_pylist()
    # A study that only the table has counts no instance, and loses its rows.
    sizes = dict.fromkeys(listed, 0) | dict(zip(living, ints(live["count"]), strict=True))
    return {study: size for study, size in sizes.items() if study is not None}


def study_slices(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield slices of studies with at most SLICE_INSTANCES together, or of one larger study."""
    taken: list[str] = []
    count = 0
    for study, size in sizes.items():
        count += size
        if taken and count > SLICE_INSTANCES:
            yield taken
            taken, count = [], size
        taken.append(study)
    if taken:
        yield taken


def derive_studies(store: Store, table: Table, studies: list[str], run: Run) -> Outcome:
    """Derive the rows of some studies from their live instances, in one attempt."""
    watch = Stopwatch()
    with watch.stage("derive"):
        target = store.open(table)
        difference = difference_of(store, target, studies)
        after = target.commit(difference, {"run_id": run.run_id, "studies": len(studies)})
    totals = Counter({**difference.counts(), "studies": len(studies)})
    rows = store.open(table).count()
    return Outcome(target.version, after, rows, totals=totals, seconds=watch.seconds)
