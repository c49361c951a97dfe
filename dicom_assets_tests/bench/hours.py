"""Hours of `instance` on tables that grow: this project, and others on the same rows.

A table has old rows in files of 100,000, as compaction leaves them, and 100,000 rows of the last
ten hours, a file each. These, and the hours that are measured, are the same in a table of any size.

- `recent`: 9,000 creates, 700 updates and 300 deletes in three studies of the last ten hours.
- `scattered`: the same with one change in each of 1,000 random old studies.
- `creates`: 10,000 creates.
- `trickle`: sixteen hours in a row, each with 1,000 creates and an update in five old studies.

A table of more than 3 million rows has headers in its newest million only. Of one of 50 million all
but that million are entries of the log and of the cache, without data files: an hour that opened
one of them would fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.ipc
from deltalake import DeltaTable

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.arrow import numbers, pc
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import PIECE_ROWS, DataFile, Replacement, commit, write
from dicom_assets_tests.bench import ways
from dicom_assets_tests.bench.archive import Study, rows_of, studies
from dicom_assets_tests.support.steps import store_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KINDS: Final = ("recent", "scattered", "creates", "trickle")
PER_FILE: Final = 100_000
HOURS, PER_HOUR = 10, 10_000
TRICKLE: Final = 16
WITH_HEADERS: Final = 1_000_000
ALL_HEADERS: Final = 3_000_000
REAL_ROWS: Final = 10_000_000
# Numbers of the studies of the last ten hours, and of those that the measured hours bring.
_LAST, _NEW = 10**8, 2 * 10**8
_SEQUENCE: Final = 10**10
_PARTITION: Final = {"partitionName": "Microsoft.Default"}


@dataclass(frozen=True)
class Cost:
    """What hours of a kind cost in one way on a table of so many rows, by round.

    `seconds` are of the CPU, by round and hour. `rows_after` and `files` come from the log.
    """

    kind: str
    way: str
    rows: int
    seconds: list[list[float]]
    peak_mb: float
    rows_after: int
    files: tuple[int, int]

    @property
    def cpu(self) -> float:
        """The median of the rounds, all hours of a round together."""
        return median(map(sum, self.seconds))


@dataclass(frozen=True)
class Made:
    """A table of many rows in a folder, and the studies in it."""

    root: Path
    rows: int
    studies: list[Study] = field(repr=False)
    last: list[list[Study]] = field(repr=False)

    @classmethod
    def build(cls, root: Path, rows: int, real: int = 0) -> Made:
        """Make the table, with data files for `real` rows."""
        real = real or (rows if rows <= REAL_ROWS else WITH_HEADERS)
        last_rows = min(HOURS * PER_HOUR, real)
        old = list(takewhile(lambda s: s.first < real - last_rows, studies()))
        newest = old[-1].first + old[-1].instances if old else 0
        arriving = studies(newest, _LAST)
        hours = [_rows_at_least(arriving, last_rows // HOURS) for _ in range(HOURS)]
        since = 0 if rows <= ALL_HEADERS else real - WITH_HEADERS
        store, ahead = store_in(root), iter(old)
        if real < rows:
            _list_only(root, rows - real)
        while some := _rows_at_least(ahead, PER_FILE):
            _add(store_in(root), some, headers=some[0].first >= since)
        for some in hours:
            _add(store, some, headers=True)
        return cls(root, rows, old, hours)

    def hours(self, kind: str) -> list[Path]:
        """Save the hours of a kind; return their folders."""
        creates, updates, deletes, of = {
            "recent": (9_000, 700, 300, 1),
            "scattered": (9_000, 700, 300, 1),
            "creates": (10_000, 0, 0, 1),
            "trickle": (1_000, 5, 0, TRICKLE),
        }[kind]
        last = sum(study.instances for some in self.last for study in some)
        scale = min(1, last / (HOURS * PER_HOUR))
        counts = [round(n * scale) or min(n, 1) for n in (creates, updates, deletes)]
        random, arriving, folders = Random(kind), studies(_SEQUENCE, _NEW), []
        for hour in range(of):
            folder = self.root.parent / f"{kind}-{self.rows}-{hour}"
            self._save(folder, kind, counts, random, arriving)
            folders.append(folder)
        return folders

    def _save(
        self,
        folder: Path,
        kind: str,
        counts: Sequence[int],
        random: Random,
        arriving: Iterator[Study],
    ) -> None:
        new = pa.concat_tables(
            rows_of(study, headers=True) for study in _rows_at_least(arriving, counts[0])
        )
        changed = self._changed(kind, sum(counts[1:]), random)
        at = changed.schema.get_field_index("sequence")
        later = pc.add(changed["sequence"], 2 * _SEQUENCE)
        changed = changed.set_column(at, changed.schema.field(at), later)
        parts = {
            "inserts": new.slice(0, counts[0]),
            "updates": changed.slice(0, counts[1]),
            "deletes": changed.slice(counts[1]).select([*INSTANCE.key, "sequence"]),
        }
        folder.mkdir(parents=True)
        for name, rows in parts.items():
            with pa.ipc.new_file(str(folder / f"{name}.arrow"), rows.schema) as file:
                file.write_table(rows)

    def _changed(self, kind: str, count: int, random: Random) -> pa.Table:
        """Return rows of the table that change."""
        if not count:
            return INSTANCE.arrow().empty_table()
        if kind == "recent":
            # One study in each of three hours.
            wanted = -(-count // 3)
            best = [min(h, key=lambda s: (s.instances < wanted, s.instances)) for h in self.last]
            chosen = sorted(best, key=lambda s: (s.instances < wanted, s.instances))[:3]
            each = max(wanted, count)
        else:
            among = self.studies or [study for hour in self.last for study in hour]
            chosen, each = random.sample(among, min(count, len(among))), 1
        rows = [rows_of(study, headers=True) for study in chosen]
        taken = [r.take(random.sample(range(len(r)), min(each, len(r)))) for r in rows]
        found = pa.concat_tables(taken)
        return found.take(random.sample(range(len(found)), min(count, len(found))))

    def copy(self, folder: Path) -> None:
        """Copy the table. Data files never change, so that the copy may share them."""
        shutil.copytree(self.root, folder, copy_function=os.link, dirs_exist_ok=True)

    def cost(self, kind: str, way: str, folders: Sequence[Path], rounds: int) -> Cost:
        """Measure hours in one way, each round on a copy of the table."""
        found: list[dict[str, Any]] = []
        before = len(DeltaTable(str(self.root / INSTANCE.name)).file_uris())
        rows = files = 0
        while len(found) < rounds and (len(found) < 1 or sum(found[-1]["cpu"]) < LONG):
            copy = self.root.parent / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            self.copy(copy)
            table = copy / INSTANCE.name
            found.append(_run(way, table, folders))
            after = DeltaTable(str(table))
            rows, files = after.count(), len(after.file_uris())
            shutil.rmtree(copy)
        seconds = [one["cpu"] for one in found]
        peak = median(one["peak_mb"] for one in found)
        return Cost(kind, way, self.rows, seconds, peak, rows, (before, files))


# CPU seconds of a round that is not repeated.
LONG: Final = 5.0


def python_of(way: str) -> Path | None:
    """Return the interpreter that has a way, None when its environment is not there."""
    own = Path(sys.executable)
    if way not in ways.FOREIGN:
        return own
    peers = Path(os.environ.get("BENCH_PEERS", f"{sys.prefix}/peers")) / "bin" / "python"
    return peers if peers.exists() else None


def _run(way: str, table: Path, folders: Iterable[Path]) -> dict[str, Any]:
    # By its path and without that folder among those imported from (-P): it has names of others.
    command = [str(python_of(way)), "-P", ways.__file__, way, str(table), *map(str, folders)]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _rows_at_least(arriving: Iterator[Study], count: int) -> list[Study]:
    """Take studies until they have so many rows."""
    taken: list[Study] = []
    while sum(study.instances for study in taken) < count and (some := list(islice(arriving, 1))):
        taken += some
    return taken


def _add(store: Any, some: list[Study], *, headers: bool) -> None:  # noqa: ANN401 - a Store
    """Commit a file with the rows of studies, in the table's order."""
    snapshot = store.open(INSTANCE).prepared()
    ordered = sorted(some, key=lambda study: study.uid)
    pieces = (
        batch
        for study in ordered
        for batch in rows_of(study, headers=headers)
        .drop_columns(["partitionName"])
        .combine_chunks()
        .to_batches(PIECE_ROWS)
    )
    file = write(snapshot, pieces, _PARTITION)
    snapshot.commit(Difference(INSTANCE, staged=[file]), {"run_id": "bench"})


def _list_only(root: Path, rows: int) -> None:
    """The table and its cache list files of so many rows that are not there."""
    snapshot, random = store_in(root).open(INSTANCE).prepared(), Random(1)
    files = [
        DataFile(
            f"partitionName=Microsoft.Default/part-{uuid.UUID(int=random.getrandbits(128))}"
            ".zstd.parquet",
            _PARTITION,
            10**7 + n,
            PER_FILE,
            statistics={
                "minValues": {"sequence": -(n + 1) * PER_FILE},
                "maxValues": {"sequence": -n * PER_FILE - 1},
                "nullCount": {"sequence": 0},
            },
        )
        for n in range(rows // PER_FILE)
    ]
    commit(snapshot, [Replacement((), tuple(files))], {"run_id": "bench"})
    held = {
        (file.path, file.size): numbers(random.getrandbits(40) for _ in range(PER_FILE // 300))
        for file in files
    }
    store_in(root).open(INSTANCE).studies.exchange((), held)
