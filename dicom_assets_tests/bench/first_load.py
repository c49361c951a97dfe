"""A first load: 720 hours as one run through Dagster, against one window, slices and single hours.

The emulator serves the archive from a process of its own; the runs are Dagster's, in this process,
with its SQLite databases and our dagster.yaml in a home on disk. "One window" is an archive with
the same instances, all of them stored within one hour: what it costs less is the price of hours.
The events in `commands.estimate.effort` and docs/operate/first-load.md come from here.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import pyarrow as pa

from dicom_assets.commands import home
from dicom_assets.definitions import build_definitions, io_manager
from dicom_assets.defs.partitions import hour_key
from dicom_assets.defs.run_tags import tags_of
from dicom_assets.defs.schedules.slices import SLICE_ENTRIES, Gap, slices
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.server import start
from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.questions import growth
from dicom_assets.window import HOUR, TICKS_PER_HOUR, Span, ticks_of
from dicom_assets_tests.bench.headers import ROOT_UID, dumped, entry, real
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.support.names import JOB

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

HOURS: Final = int(os.environ.get("BENCH_HOURS", "720"))
PER_HOUR: Final = int(os.environ.get("BENCH_PER_HOUR", "30"))
ROWS: Final = int(os.environ.get("BENCH_ROWS", "1000000"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "3"))
SLICES: Final = 8
SINGLE: Final = 24
PER_STUDY, PER_SERIES = 60, 15
PER_COMMIT: Final = 50_000
START: Final = datetime(2024, 3, 1, tzinfo=UTC)
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_DATABASES: Final = ("*.db", "*.db-wal", "*.db-shm")


@dataclass(frozen=True)
class _Cost:
    """What runs have cost: seconds of the clock, of the processor, and of our steps' own work."""

    wall: float
    processor: float
    steps: float

    @classmethod
    def sum(cls, parts: list[_Cost]) -> _Cost:
        return cls(*(sum(getattr(p, name) for p in parts) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class _Home:
    """A fresh DAGSTER_HOME and fresh tables, filled from one service."""

    folder: Path
    url: str

    @cached_property
    def settings(self) -> Settings:
        return Settings(
            service_url=self.url,
            tables_url=str(self.folder / "tables"),
            start_time=START,
            end_time=START + HOURS * HOUR,
            retry_seconds=0,
        )

    @cached_property
    def job(self) -> dg.JobDefinition:
        return build_definitions(self.settings).resolve_job_def(JOB)

    def load(self, spans: list[Span]) -> _Cost:
        """The spans are in the tables, a run each."""
        with dg.DagsterInstance.from_config(
            str(home.initialise_home(self.folder / "home"))
        ) as instance:
            return _Cost.sum([self._run(instance, span) for span in spans])

    def _run(self, instance: dg.DagsterInstance, span: Span) -> _Cost:
        key = hour_key(span.first) if span.count == 1 else None
        began = time.monotonic(), time.process_time()
        result = self.job.execute_in_process(
            instance=instance,
            partition_key=key,
            tags=None if key else tags_of(span),
            run_config=QUIET,
        )
        wall, processor = time.monotonic() - began[0], time.process_time() - began[1]
        return _Cost(wall, processor, _steps(instance, result.run_id))

    @property
    def database_bytes(self) -> int:
        files = (f for kind in _DATABASES for f in (self.folder / "home").rglob(kind))
        return sum(f.stat().st_size for f in files)

    @property
    def events(self) -> int:
        with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
            return sum(len(instance.all_logs(run.run_id)) for run in instance.get_runs())

    def sizes(self) -> Mapping[str, growth.TableSize]:
        return growth.sizes(io_manager(self.settings).store())

    def rows(self) -> dict[str, int]:
        store = io_manager(self.settings).store()
        return {table.name: store.open(table).count() for table in TABLES}


def _steps(instance: dg.DagsterInstance, run_id: str) -> float:
    """Return the seconds between the start of each step and its first materialization."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.ASSET_MATERIALIZATION}
    began, seconds = dict[str, float](), dict[str, float]()
    for event in instance.all_logs(run_id, of_type=kinds):
        step = event.step_key or ""
        if step not in began:
            began[step] = event.timestamp
        elif step not in seconds:
            seconds[step] = event.timestamp - began[step]
    return sum(seconds.values())


def measure() -> Iterator[Measured]:
    """Yield the ratios: 720 hours to one window, slices and single hours to 720, and growth."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        hours, window = (
            _archive(root / name, spread=name == "hours") for name in ("hours", "window")
        )
        with _served(hours) as url, _served(window) as narrow:
            one = yield from _ranged(root, url, narrow)
            yield _sliced(root, url, one)
            yield _single(root, url, one)
            yield _grown(root, url)


def _ranged(root: Path, url: str, narrow: str) -> Generator[Measured, None, float]:
    """Return the seconds of one run over all hours, once the ratios are told."""
    costs: tuple[list[_Cost], list[_Cost]] = ([], [])
    made = _Home(root, url)
    for number in range(ROUNDS):
        made = _Home(root / f"one-{number}", url)
        costs[0].append(made.load([Span(START, START + (HOURS - 1) * HOUR)]))
        costs[1].append(_Home(root / f"window-{number}", narrow).load([Span(START, START)]))
    rows, sizes = made.rows(), made.sizes()
    for name, cost in {"backfill_720": "processor", "backfill_720_tables": "steps"}.items():
        one, window = (median(getattr(c, cost) for c in some) for some in costs)
        yield Measured(
            name,
            median(getattr(o, cost) / getattr(w, cost) for o, w in zip(*costs, strict=True)),
            {"hours": HOURS, "entries": rows[CHANGE.name], "seconds": _r(one), "window": _r(window)}
            | ({} if cost == "steps" else _held(made, rows, sizes, costs)),
        )
    return median(c.processor for c in costs[0])


def _r(seconds: float) -> float:
    return round(seconds, 2)


def _held(
    made: _Home,
    rows: Mapping[str, int],
    sizes: Mapping[str, growth.TableSize],
    costs: tuple[list[_Cost], list[_Cost]],
) -> dict[str, float]:
    bytes_of = {f"bytes_per_{t}": round(s.bytes / max(1, rows[t])) for t, s in sizes.items()}
    return {
        "wall": _r(median(c.wall for c in costs[0])),
        "window_wall": _r(median(c.wall for c in costs[1])),
        "events": made.events,
        "database_bytes": made.database_bytes,
        "table_bytes": sum(size.bytes for size in sizes.values()),
        **bytes_of,
        "header_bytes": sum(len(dumped(h)) for h in real()) // len(real()),
        "distinct_headers_percent": _r(_distinct() * 100),
    }


def _distinct() -> float:
    """Return which part zstd leaves of headers that have nothing in common."""
    text = "".join(map(dumped, real())).encode()
    return len(pa.compress(text, codec="zstd", asbytes=True)) / len(text)


def _sliced(root: Path, url: str, one: float) -> Measured:
    """Return what slices cost to one run; the schedule itself would ask these hours as one."""
    made = _Home(root / "slices", url)
    whole = Span(START, START + (HOURS - 1) * HOUR)
    many = SLICE_ENTRIES * SLICES
    asked = slices(Gap(whole), lambda s: many * s.count // HOURS, newest_first=False)
    spans = [part.hours for part in asked]
    cost = made.load(spans)
    beside = {"runs": len(spans), "seconds": _r(cost.processor), "wall": _r(cost.wall)}
    beside |= {"events": made.events, "database_bytes": made.database_bytes}
    return Measured("slices_720", cost.processor / one, beside)


def _single(root: Path, url: str, one: float) -> Measured:
    made = _Home(root / "single", url)
    count = min(SINGLE, HOURS)
    cost = made.load([Span(hour, hour) for hour in (START + n * HOUR for n in range(count))])
    times = HOURS / count
    beside = {"runs": count, "seconds": _r(cost.processor), "wall": _r(cost.wall)}
    beside |= {"events": made.events, "database_bytes": made.database_bytes}
    return Measured("hours_720", cost.processor * times / one, beside)


def _grown(root: Path, url: str) -> Measured:
    """Return what a day costs on tables of many rows to what it costs on nearly empty ones."""
    first, day = Span(START, START), Span(START + HOUR, START + min(24, HOURS - 1) * HOUR)
    costs = []
    for rows in (0, ROWS):
        made = _Home(root / f"grown-{rows}", url)
        made.load([first])
        _fill(made, rows)
        costs.append(made.load([day]).steps)
    beside = {"rows": ROWS, "seconds": _r(costs[1]), "empty": _r(costs[0])}
    return Measured("first_load_growth", costs[1] / costs[0], beside)


def _fill(made: _Home, count: int) -> None:
    """`instance` and `change` have many rows of other studies, all older than the archive's."""
    store, reader = io_manager(made.settings).store(), RowReader()
    headers = itertools.cycle(real())
    entries = (entry(n, next(headers) | _own(10**9 + n)) for n in range(count))
    while some := list(itertools.islice(entries, PER_COMMIT)):
        found = [e for one in some for _, e in decode_page(b"[" + one + b"]")]
        rows, _, _ = reader.read([e for e in found if isinstance(e, Entry)])
        at = rows.schema.get_field_index("sequence")
        older = pc.negate(rows["sequence"])
        rows = rows.set_column(at, rows.schema.field(at), older)
        store.open(INSTANCE).commit(Difference(INSTANCE, inserts=rows), {})
        store.open(CHANGE).commit(Difference(CHANGE, inserts=_logged(rows)), {})


def _logged(rows: pa.Table) -> pa.Table:
    """Return the rows that the log has for instances that were stored a day before the start."""
    moment = START - 24 * HOUR
    same = {"action": "Create", "state": "Current", "timestamp": moment}
    same |= {"timestamp_ticks": ticks_of(moment)}
    log = [{**row, **same} for row in rows.select([*INSTANCE.key, "sequence"]).to_pylist()]
    return pa.Table.from_pylist(log, schema=CHANGE.arrow())


def _archive(folder: Path, *, spread: bool) -> Path:
    """Return an archive of instances that arrive over all hours, or in the first of them."""
    archive, headers = Archive(folder), real()
    chance, number = random.Random(1), 0
    for hour in range(HOURS):
        count = round(2 * PER_HOUR * chance.random())
        for place in range(count):
            at = (hour + place / count) * TICKS_PER_HOUR
            moment = ticks_of(START) + int(at if spread else at / HOURS)
            header = headers[number // PER_SERIES % len(headers)]
            archive.store(header | _own(number), at=moment)
            number += 1
    archive.close()
    return folder


def _own(number: int) -> dict[str, Any]:
    uids = {
        "0020000D": f"1.{number // PER_STUDY}",
        "0020000E": f"2.{number // PER_SERIES}",
        "00080018": f"3.{number}",
    }
    named = {tag: {"vr": "UI", "Value": [f"{ROOT_UID}.{own}"]} for tag, own in uids.items()}
    return named | {"00200013": {"vr": "IS", "Value": [number % PER_SERIES]}}


@contextmanager
def _served(archive: Path) -> Iterator[str]:
    """Yield the address of a service of its own process."""
    command = [sys.executable, "-m", __name__, str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.terminate()


def _serve(folder: Path) -> None:
    """The archive is served until the other side has had enough."""
    with start(create_application(Archive(folder))) as running:
        print(running.url, flush=True)  # noqa: T201 - what the other side waits for
        sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
