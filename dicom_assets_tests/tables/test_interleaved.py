"""Others act in the middle of a commit, at each of its phases: nothing is lost, doubled, or back.

A run looks at its table, writes its files, commits, and writes the cache of studies. Whoever comes
in between has done all of its work before the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from dicom_assets.errors import DicomAssetsError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Table
from dicom_assets.tables import instance, rollup
from dicom_assets.tables.delta import apply as applied
from dicom_assets.tables.delta import slices
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets.tables.delta.study_files import StudyFiles
from dicom_assets.tables.upkeep import column_backfill, compaction
from dicom_assets_tests.support.samples import crossed
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, hours, key, run
from dicom_assets_tests.tables.delta.spoilt import make_small
from dicom_assets_tests.tables.differences import rows

NIGHT: Final = run("night", datetime.now(UTC) + timedelta(days=8))
TABLES: Final = (CHANGE, INSTANCE, SERIES, STUDY)
COLUMNS: Final = {
    CHANGE.name: ("sequence", "action", "sopinstanceuid"),
    INSTANCE.name: ("sequence", "patientid", "received_timestamp"),
    SERIES.name: ("sequence", "instanceCount"),
    STUDY.name: ("sequence", "instanceCount", "seriesCount", "patientId"),
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two hours are in the tables, the third is in the log; slices are of few rows."""
    make_small(monkeypatch)
    monkeypatch.setattr(compaction, "LEAST_FILES", 2)
    monkeypatch.setattr(slices, "SLICE_BYTES", 3_000)
    monkeypatch.setattr(rollup, "SLICE_BYTES", 3_000)
    monkeypatch.setattr(rollup, "STUDIES_AT_FIRST", 1)
    monkeypatch.setattr(rollup, "INSTANCES_AT_ONCE", 1)
    monkeypatch.setattr(instance, "RANGE_ENTRIES", 2)
    monkeypatch.setattr(instance, "READ_AT_ONCE", 2)
    bench = Bench(store_in(tmp_path / "tables"))
    for hour in (0, 1):
        _hour(bench, hour)
        bench.sync(hours(hour))
    _hour(bench, 2)
    return bench


def _hour(bench: Bench, hour: int) -> None:
    """What happens in an hour of the archive."""
    archive, first = bench.archive, hour * 60
    for number in range(3):
        of = key(f"{hour}{number}", study=str(number), series=str(hour))
        archive.create(first + number, of=of, patientid=f"PHI-{hour}{number}")
    if hour >= 2:
        archive.update(first + 10, of=key("00", study="0", series="0"), patientid=f"PHI-{hour}")
        archive.update(first + 11, of=key("11", study="1", series="1"), patientid=f"PHI-{hour}")
        archive.delete(first + 12, of=key(f"{hour - 2}2", study="2", series=str(hour - 2)))


# --- others ---------------------------------------------------------------------------------------


def _write(bench: Bench) -> None:
    """Another run brings the next hour, of the same studies."""
    _hour(bench, 3)
    bench.sync(hours(3), run("other"))


def _write_the_same(bench: Bench) -> None:
    """Another run brings the same hour."""
    bench.sync(hours(2), run("other"))


def _compact(bench: Bench) -> None:
    for table in TABLES:
        compaction.compact(bench.store, table, NIGHT)


def _fill(bench: Bench) -> None:
    """A column is filled in every row."""

    def read(piece: pa.RecordBatch, _: Sequence[str]) -> tuple[pa.Table, Any]:
        filled = pa.table({"manufacturer": ["ACME"] * len(piece)})
        return filled, pa.array([True] * len(piece))

    made = frozenset({"manufacturer"})
    extract = column_backfill.Extract(read, ("sequence",), made, anew=True)
    column_backfill.fill(bench.store, INSTANCE, extract, NIGHT)


def _vacuum(bench: Bench) -> None:
    """Old files go at once, which no table of ours is kept for."""
    for table in TABLES:
        delta = bench.store.delta(table)
        delta.vacuum(0, dry_run=False, enforce_retention_duration=False)


def _erase(bench: Bench) -> None:
    """The service deletes a study, another run follows, and its old files go."""
    for of in [of for of in bench.archive.live if of[1] == "1.0"]:
        bench.archive.delete(230, of=of)
    bench.sync(hours(3), run("other"))
    _vacuum(bench)


def _optimize(bench: Bench) -> None:
    for table in TABLES:
        bench.store.delta(table).optimize.compact()


def _append_nothing(bench: Bench) -> None:
    """A foreign commit without rows."""
    bench.store.delta(INSTANCE).delete("sequence = -7")


OTHERS: Final = {
    "a writer": _write,
    "a writer of the hour": _write_the_same,
    "compaction": _compact,
    "column filling": _fill,
    "vacuum": _vacuum,
    "erasure": _erase,
    "optimize": _optimize,
    "nothing": _append_nothing,
}

# --- phases ---------------------------------------------------------------------------------------


def _before(place: Any, name: str) -> Callable[[pytest.MonkeyPatch, "_Step"], None]:  # noqa: ANN401 - any of them
    def plant(patch: pytest.MonkeyPatch, step: "_Step") -> None:
        act = getattr(place, name)

        def acting(*given: Any) -> Any:  # noqa: ANN401 - as it is
            step(given[0])
            return act(*given)

        patch.setattr(place, name, acting)

    return plant


def _after(place: Any, name: str) -> Callable[[pytest.MonkeyPatch, "_Step"], None]:  # noqa: ANN401 - any of them
    def plant(patch: pytest.MonkeyPatch, step: "_Step") -> None:
        act = getattr(place, name)

        def acting(*given: Any) -> Any:  # noqa: ANN401 - as it is
            result = act(*given)
            step(given[0])
            return result

        patch.setattr(place, name, acting)

    return plant


PHASES: Final[Mapping[str, Callable[[pytest.MonkeyPatch, "_Step"], None]]] = {
    "before it looks": _before(Snapshot, "commit"),
    "after it has looked": _after(applied._Changes, "candidates"),
    "after it wrote a slice": _after(Snapshot, "stage"),
    "before it commits": _before(applied, "commit"),
    "before it writes the cache": _before(StudyFiles, "exchange"),
    "after it wrote the cache": _after(StudyFiles, "exchange"),
}


class _Step:
    """Lets others act once, when a table is at the phase, and reads the table before and after."""

    def __init__(self, bench: Bench, table: Table, act: Callable[[Bench], None]) -> None:
        self._bench, self._table, self._act = bench, table, act
        self.is_done = False

    def __call__(self, of: Any) -> None:  # noqa: ANN401 - whatever is at the phase
        snapshot = getattr(of, "_snapshot", of)
        if self.is_done or snapshot.table.name != self._table.name:
            return
        self.is_done = True
        reader = self._bench.store.open(self._table)
        before = rows(reader)
        self._act(self._bench)
        if self._act not in {_vacuum, _erase}:
            assert rows(reader) == before


def _state(bench: Bench) -> dict[str, dict[Any, tuple[object, ...]]]:
    """The rows of each table by key; no key has two, and look-ups by study agree with a scan."""
    found = {}
    for table in TABLES:
        here = bench.store.open(table)
        scanned = rows(here)
        studies = sorted({row[table.study_column] for row in scanned.values()})
        looked_up = here.rows_of(table.study_column, studies)
        assert sorted(looked_up.to_pylist(), key=repr) == sorted(scanned.values(), key=repr)
        found[table.name] = {
            of: tuple(row[name] for name in COLUMNS[table.name]) for of, row in scanned.items()
        }
    return found


def _named(case: tuple[str, str, Table]) -> str:
    phase, other, table = case
    return f"{other} {phase} to {table.name}"


@pytest.mark.parametrize(
    "case", crossed(list(PHASES), list(OTHERS), [INSTANCE, SERIES, CHANGE]), ids=_named
)
def test_others_act_in_the_middle(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, Table]
) -> None:
    """The run ends well, or red because its files are gone; the next one leaves all as it is."""
    phase, other, table = case
    step = _Step(bench, table, OTHERS[other])
    with monkeypatch.context() as patch, suppress(DicomAssetsError):
        PHASES[phase](patch, step)
        bench.sync(hours(2))
    assert step.is_done
    if not bench.archive.entries_[-1]["timestamp_ticks"] >= hours(3).start:  # type: ignore[operator]
        _hour(bench, 3)
    _state(bench)
    bench.sync(hours(2))
    bench.sync(hours(3))
    fresh = Bench(store_in(tmp_path / "fresh"), bench.archive)
    fresh.sync(hours(0, 4))
    assert _state(bench) == _state(fresh)
