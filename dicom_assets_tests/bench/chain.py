"""A whole hour from the feed to four tables, against its floor, itself again, and two at once.

The emulator serves from a process of its own. Each measurement is a process of its own too, which
has brought a first small hour into its tables before. Run as a program it is that process
(`_CHILDREN`), or the service.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.server import start
from dicom_assets.header.extraction import header_map
from dicom_assets.schema import CHANGE, HEADER_MAP, INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.arrow import distinct, ints, texts
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.rollup import derive_studies
from dicom_assets.window import HOUR, Window
from dicom_assets_tests.bench import ways
from dicom_assets_tests.bench.archive import START, rows_of, studies
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from dicom_assets.tables.delta.snapshot import Store

# Instances of the hour that is measured, and of each of the two that two writers bring.
INSTANCES: Final = 10_000
OF_TWO: Final = 4_000
FIRST: Final = 300
LATENCY: Final = 0.3
ROUNDS: Final = 3
_RUN: Final = Run("bench", START + 99 * HOUR)


def measure(
    instances: int = INSTANCES, of_two: int = OF_TWO, rounds: int = ROUNDS
) -> Iterator[Measured]:
    """Yield the ratios of a whole hour, of two writers, and of the bytes on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        counts = [FIRST, instances, of_two, of_two]
        _store(root / "archive", counts)
        with _served(root / "archive", 0) as url:
            made = [json.loads(_child("hour", root / f"hour-{n}", url)) for n in range(rounds)]
            floors = [json.loads(_child("floor", root / f"floor-{n}", url)) for n in range(rounds)]
        for key, name in (("pages", "header page"), ("commits", "commit")):
            assert not any(one[key] for one in made), f"an unchanged hour again made a {name}"
        first, again, floor = (
            median(one[key] for one in some)
            for some, key in ((made, "first"), (made, "again"), (floors, "floor"))
        )
        beside = {"instances": instances, "cpu_s": _r(first)}
        yield Measured("chain_vs_floor", first / floor, beside | {"floor_s": _r(floor)})
        again_beside = beside | {"again_s": _r(again), "header_pages": 0, "commits": 0}
        yield Measured("rerun_vs_run", again / first, again_beside)
        yield _bytes(root / "hour-0", root / "template")
        with _served(root / "archive", LATENCY) as url:
            yield _two_writers(root, url, of_two)


def _r(seconds: float) -> float:
    return round(seconds, 2)


def _store(folder: Path, counts: list[int]) -> None:
    """The archive has so many instances in each hour from the start on."""
    archive, arriving = Archive(folder), studies()
    for hour, wanted in enumerate(counts):
        window, stored = _window(hour), count()
        step = (window.end - window.start) // wanted
        while (at := next(stored)) < wanted:
            rows = rows_of(next(arriving), headers=True)
            for n, text in enumerate(texts(rows["metadata_string"])[: wanted - at]):
                archive.store(json.loads(text), at=window.start + (at + n) * step)
            stored = count(at + len(rows))
    archive.close()


def _window(hour: int) -> Window:
    return Window.between(START + hour * HOUR, START + (hour + 1) * HOUR)


def _bytes(root: Path, template: Path) -> Measured:
    """Return what `instance` takes on the disk, to the same rows in the layout of the template."""
    rows = steps.store_in(root).open(INSTANCE).rows()
    maps = [header_map(text.encode()) for text in texts(rows["metadata_string"])]
    at = rows.schema.get_field_index("metadata")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(maps, HEADER_MAP))
    write_deltalake(
        str(template),
        rows,
        partition_by=["partitionName"],
        writer_properties=WriterProperties(compression="SNAPPY"),
    )
    ours, theirs = (
        sum(file.stat().st_size for file in folder.glob("*/*.parquet")) / len(rows)
        for folder in (root / INSTANCE.name, template)
    )
    return Measured(
        "bytes_per_instance", ours / theirs, {"ours": round(ours), "template": round(theirs)}
    )


def _two_writers(root: Path, url: str, of_two: int) -> Measured:
    """Return how many times longer one writer takes for two hours than two at once take."""
    spent = dict[str, float]()
    for name, hours in {"one": ["2,3"], "two": ["2", "3"]}.items():
        folder = root / name
        _child("writer", folder, url, "0", "now")
        with ExitStack() as opened:
            writers = [
                opened.enter_context(_started("writer", folder, url, hour)) for hour in hours
            ]
            for writer in writers:
                assert _line(writer) == "ready"
            began = time.monotonic()
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write(b"go\n")
                writer.stdin.flush()
            for writer in writers:
                assert _line(writer) == "done"
            spent[name] = time.monotonic() - began
    one, two = (_content(steps.store_in(root / name)) for name in spent)
    assert one == two, "two writers made other tables than one"
    beside = {"entries": 2 * of_two, "one_s": _r(spent["one"]), "two_s": _r(spent["two"])}
    return Measured("two_writers", spent["one"] / spent["two"], beside | {"latency_s": LATENCY})


def _content(store: Store) -> list[Any]:
    """Return the rows of the tables, without what depends on the moment of their writing."""
    found: list[Any] = []
    for table in (CHANGE, INSTANCE, SERIES, STUDY):
        own = {column.name for column in table.columns if not column.compared}
        rows = store.open(table).rows()
        own |= {"created_date", "received_timestamp"}
        rows = rows.select([name for name in rows.column_names if name not in own])
        found.append(rows.sort_by([(name, "ascending") for name in table.key]).to_pylist())
    return found


def rollup(table: Path, hour: Path) -> float:
    """Return the CPU seconds of `series` and `study` for an hour, on a copy of a table."""
    return float(_child("rollup", table, str(hour)))


def fill(root: Path) -> None:
    """`series` and `study` of a table have their rows."""
    store = steps.store_in(root)
    uids = distinct(
        store.open(INSTANCE).query("SELECT DISTINCT studyinstanceuid FROM t")["studyinstanceuid"]
    )
    for table in (SERIES, STUDY):
        derive_studies(store, table, uids, _RUN)


# --- processes ------------------------------------------------------------------------------------


def _hour(root: str, url: str) -> str:
    store, spent, pages, commits = steps.store_in(Path(root)), list[float](), 0, 0
    with feed_of(url) as feed:
        _bring(store, feed, 0)
        for _ in range(2):
            before = _versions(store)
            began = time.process_time()
            pages = _bring(store, feed, 1)
            spent.append(time.process_time() - began)
            commits = sum(_versions(store)) - sum(before)
    told = {"first": spent[0], "again": spent[1], "pages": pages, "commits": commits}
    return json.dumps(told)


def _bring(store: Store, feed: Any, hour: int) -> int:  # noqa: ANN401 - a ChangeFeed
    """Return the number of header pages that were read."""
    window = _window(hour)
    steps.add_entries(store, window, feed, _RUN)
    outcome = steps.follow_log(store, window, feed, _RUN)
    for table in (SERIES, STUDY):
        steps.derive(store, table, window, _RUN)
    return outcome.totals["pages"]


def _versions(store: Store) -> list[int]:
    return [store.open(table).version for table in store.tables.values()]


def _floor(root: str, url: str) -> str:
    """The headers of the hour are read and decoded, and the rows appended, and nothing else."""
    spent = 0.0
    with feed_of(url) as feed:
        for hour in (0, 1):
            log = feed.entries(_window(hour)).changes
            wanted = ints(log["sequence"])
            began = time.process_time()
            rows = pa.concat_tables([piece.rows for piece in feed.headers(log, wanted)])
            write_deltalake(root, rows, mode="append")
            spent = time.process_time() - began
    return json.dumps({"floor": spent})


def _writer(root: str, url: str, hours: str, when: str = "") -> str:
    store = steps.store_in(Path(root))
    with feed_of(url) as feed:
        if not when:
            print("ready", flush=True)  # noqa: T201 - what the other side waits for
            sys.stdin.readline()
        for hour in hours.split(","):
            _bring(store, feed, int(hour))
    return "done"


def _rollup(root: str, hour: str) -> str:
    table, parts = Path(root) / INSTANCE.name, ways.load(Path(hour))
    ways.ours(table)(parts)
    store = steps.store_in(Path(root))
    uids = distinct(
        pa.concat_tables([p.select(["studyinstanceuid"]) for p in parts.values()])[
            "studyinstanceuid"
        ]
    )
    began = time.process_time()
    for derived in (SERIES, STUDY):
        derive_studies(store, derived, uids, _RUN)
    return str(time.process_time() - began)


_CHILDREN: Final[dict[str, Callable[..., str]]] = {
    "hour": _hour,
    "floor": _floor,
    "writer": _writer,
    "rollup": _rollup,
}


@contextmanager
def _started(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def _child(*arguments: object) -> str:
    with _started(*arguments) as process:
        return _line(process)


@contextmanager
def _served(archive: Path, latency: float) -> Iterator[str]:
    """Yield the address of a service of its own process that answers that late."""
    with _started("serve", archive, latency) as process:
        yield _line(process)


class _Late:
    """Waits before each answer."""

    def __init__(self, application: ASGIApp, seconds: float) -> None:
        self._application, self._seconds = application, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._seconds)
        await self._application(scope, receive, send)


def _serve(folder: str, latency: str) -> None:
    application = _Late(create_application(Archive(Path(folder))), float(latency))
    with start(application) as running:
        print(running.url, flush=True)  # noqa: T201 - what the other side waits for
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(*sys.argv[2:])
    else:
        print(_CHILDREN[sys.argv[1]](*sys.argv[2:]), flush=True)  # noqa: T201 - the answer
