"""Hostile answers at the cap: the processor's seconds and the peak of memory that each costs.

`python -m dicom_assets_tests.bench.hostile` prints a table; names as arguments choose answers. Each
answer is served over a socket, packed, and read once by a fresh process, whose memory before the
read is not counted. `make bench` runs it. Work that can be counted is asserted in the tests beside
the modules; here is only what a clock and the system say.
"""

from __future__ import annotations

import gzip
import itertools
import multiprocessing
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from dicom_assets.errors import ServiceError
from dicom_assets.feed.http.body import MOST_BYTES
from dicom_assets.feed.rows import RowReader
from dicom_assets.header.marks import MOST_MARKS
from dicom_assets.window import TICKS_PER_HOUR, Window
from dicom_assets_tests.support.entries import header
from dicom_assets_tests.support.feed_service import HOUR, QUICK, Answer, Running, Service
from dicom_assets_tests.support.feed_service import made as entry
from dicom_assets_tests.support.feeds import search_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dicom_assets.feed.search import StudyCounts

WINDOW: Final = Window(HOUR, HOUR + TICKS_PER_HOUR)
_ROOM: Final = MOST_BYTES - 4096
_MEBI: Final = 2**20
_LARGE: Final = 101
HOUR_OF_ONE: Final = "an hour of 200, one header of 80 MB"


def _filled(unit: bytes, size: int = _ROOM, separator: bytes = b",") -> bytes:
    return separator.join([unit] * (size // (len(unit) + len(separator))))


def _named(size: int = _ROOM) -> bytes:
    return b",".join(b'"%x":1' % n for n in range(0x100000, 0x100000 + size // 11))


def _page(*entries: dict[str, Any], **raw: bytes) -> bytes:
    """Return a page of entries, with raw JSON in place of the texts that are names in `raw`."""
    body = b"[" + b",".join(map(_dumped, entries)) + b"]"
    for name, text in raw.items():
        body = body.replace(b'"%s"' % name.encode(), text)
    return body


def _dumped(one: dict[str, Any]) -> bytes:
    return msgspec.json.encode(one)


def _header(tag: str, attribute: bytes) -> bytes:
    """Return a page of one entry, whose header has this attribute."""
    uids = {"study": "1.2.0", "series": "1.2.0.1", "sop": "1.3.1"}
    own = header(*uids.values()) | {tag: "RAW"}
    return _page(entry(1, HOUR, metadata=dict(sorted(own.items()))), RAW=attribute)


def _values(tag: str, vr: str, unit: bytes, size: int = _ROOM) -> Callable[[], bytes]:
    return lambda: _header(tag, b'{"vr":"%s","Value":[' % vr.encode() + _filled(unit, size) + b"]}")


def _strange(unit: bytes) -> Callable[[], bytes]:
    """Return 200 entries with 300 kB of junk each, which no decoder takes whole."""
    size = _ROOM // 200 - 600
    junk = b'{"00081115":nul,"x":[' + _filled(unit, size) + b"]}"
    rows = [entry(n, HOUR + n, metadata="RAW") for n in range(200)]
    return lambda: _page(*rows, RAW=junk)


# By name: the kind of read, and the body that each of its requests gets.
ANSWERS: Final[Mapping[str, tuple[str, Callable[[], bytes]]]] = {
    "[[[[…": ("light", lambda: b"[" * _ROOM),
    "[[[[…]]]]": ("light", lambda: b"[" * (_ROOM // 2) + b"]" * (_ROOM // 2)),
    "[1,1,1,…": ("light", lambda: b"[" + _filled(b"1") + b"]"),
    "[1,1,1,… cut": ("light", lambda: b"[" + _filled(b"1")),
    "[{},{},…": ("light", lambda: b"[" + _filled(b"{}") + b"]"),
    "[{},{},… cut": ("light", lambda: b"[" + _filled(b"{}")),
    '["","",…': ("light", lambda: b"[" + _filled(b'""') + b"]"),
    "[[[],[],…]]": ("light", lambda: b"[[" + _filled(b"[]") + b"]]"),
    "[[[],[],…nul]]": ("light", lambda: b"[[" + _filled(b"[]") + b",nul]]"),
    "usable entries": (
        "light",
        lambda: _page(*(entry(n, HOUR + n, metadata=None) for n in range(_ROOM // 260))),
    ),
    "one string": ("light", lambda: b'["' + b"x" * _ROOM + b'"]'),
    "one string of escapes": ("light", lambda: b'["' + b"\\\\" * (_ROOM // 2) + b'"]'),
    "one string that never ends": ("light", lambda: b'["' + b'\\"' * (_ROOM // 2)),
    "one number": ("light", lambda: b"[" + b"1" * _ROOM + b"]"),
    "spaces": ("light", lambda: b" " * _ROOM),
    "an entry of a million names": ("light", lambda: b"[{" + _named() + b"}]"),
    "as many names as are split": (
        "light",
        lambda: b"[{" + _named(11 * (MOST_MARKS // 3 - 2)) + b"}]",
    ),
    "200 entries of as many": (
        "light",
        lambda: b"[" + b",".join([b"{" + _named(11 * (MOST_MARKS // 601)) + b"}"] * 200) + b"]",
    ),
    "as many elements of one, nul": (
        "light",
        lambda: b'[{"a":[' + _filled(b"1", 2 * MOST_MARKS - 100) + b",nul]}]",
    ),
    "as many fields of [], nul": (
        "light",
        lambda: b"[{" + _filled(b'"a":[]', 7 * (MOST_MARKS // 5 - 2)) + b',"a":nul}]',
    ),
    "as deep as is split": ("light", lambda: b"[" + b"[" * 999_000 + b"]" * 999_000 + b"]"),
    "an entry of a million objects": ("light", lambda: b"[{" + _filled(b'"a":{}') + b"}]"),
    "200 entries of odd names": (
        "light",
        lambda: b"[" + b",".join([b"{" + _named(_ROOM // 200) + b"}"] * 200) + b"]",
    ),
    "a sequence of a million digits": (
        "light",
        lambda: _page(entry(1, HOUR) | {"sequence": "RAW"}, RAW=b"1" * _MEBI),
    ),
    "a sequence of all digits": (
        "light",
        lambda: _page(entry(1, HOUR) | {"sequence": "RAW"}, RAW=b"1" * (_ROOM - 1000)),
    ),
    "a timestamp of all digits": (
        "light",
        lambda: _page(entry(1, HOUR) | {"timestamp": "1" * (_ROOM - 1000)}),
    ),
    "an action of all": ("light", lambda: _page(entry(1, HOUR) | {"action": "x" * (_ROOM - 1000)})),
    "a UID of all": (
        "light",
        lambda: _page(entry(1, HOUR) | {"sopInstanceUid": "1" * (_ROOM - 1000)}),
    ),
    "a filePath of all": (
        "light",
        lambda: _page(entry(1, HOUR) | {"filePath": "x" * (_ROOM - 1000)}),
    ),
    "200 junk headers of []": ("light", _strange(b"[]")),
    "200 junk headers of {}": ("light", _strange(b"{}")),
    '200 junk headers of ""': ("light", _strange(b'""')),
    "200 junk headers of 1": ("light", _strange(b"1")),
    "a header of one text": ("headers", _values("00104000", "LT", b'"' + b"x" * 60_000_000 + b'"')),
    "a study description of 60 MB": (
        "headers",
        _values("00081030", "LO", b'"' + b"x" * 60_000_000 + b'"'),
    ),
    "a million values, numbers": ("headers", _values("00280030", "DS", b"1.5", 4_000_000)),
    "a million values, text": ("headers", _values("00081030", "LO", b'"ab"', 5_000_000)),
    "values to the cap, text": ("headers", _values("00081030", "LO", b'"ab"')),
    "values to the cap, [1]": ("headers", _values("00081030", "LO", b"1")),
    "values to the cap, names": (
        "headers",
        _values("00100010", "PN", b'{"Alphabetic":"A^B"}'),
    ),
    "items to the cap": ("headers", _values("52009229", "SQ", b'{"00080060":{"vr":"CS"}}')),
    "attributes to the cap": (
        "headers",
        lambda: _header("00100020", b"{}," + _filled_attributes()),
    ),
    "attributes to the cap, as a map": (
        "maps",
        lambda: _header("00100020", b"{}," + _filled_attributes()),
    ),
    "values to the cap, as a map": ("maps", _values("00081030", "LO", b"1")),
    "a header 10,000 deep": (
        "headers",
        lambda: _header(
            "00081115",
            b'{"vr":"SQ","Value":[{"00081115":' * 10_000 + b'{"vr":"SQ"}' + b"}]}" * 10_000,
        ),
    ),
    "latest: [1,1,…": ("latest", lambda: _filled(b"1")),
    "search: [{},{},…": ("search", lambda: b"[" + _filled(b"{}") + b"]"),
    "search: studies": (
        "search",
        lambda: (
            b"["
            + _filled(b'{"0020000D":{"vr":"UI","Value":["1"]},"00201208":{"vr":"IS","Value":[1]}}')
            + b"]"
        ),
    ),
    "holders: [{},{},…": ("holders", lambda: b"[" + _filled(b"{}") + b"]"),
    "partitions: [{},{},…": ("partitions", lambda: b"[" + _filled(b'{"a":1}') + b"]"),
    "partitions: [[[…": ("partitions", lambda: b"[" * _ROOM),
}


def _filled_attributes() -> bytes:
    return b",".join(b'"%08X":{}' % n for n in range(0x300000, 0x300000 + _ROOM // 14))


def _read(url: str, kind: str) -> tuple[str, float, int]:
    """Return what a read ends with, its seconds of the processor and its peak of memory in MB."""
    reader = RowReader(header_columns="both") if kind == "maps" else RowReader()
    with search_of(url, retry_seconds=0, timeouts=QUICK, reader=reader, in_flight=1) as feed:
        _ready(feed)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that of now
        before, began = _memory("VmRSS"), time.process_time()
        try:
            end = _READS[kind](feed)
        except ServiceError as error:
            end = f"{type(error).__name__}: {error}"
        return end, time.process_time() - began, _memory("VmHWM") - before


def _ready(feed: StudyCounts) -> None:
    """Import and compile what an hour before the hostile answer would have."""
    with_all = RowReader(header_columns="both")
    with_all.read([])
    feed._reader.read([])


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024 // 1_000_000


def _headers(feed: StudyCounts) -> str:
    log = pa.table({"sequence": [1], "timestamp_ticks": [HOUR]})
    pieces = list(feed.headers(log, [1]))
    counts = [(p.rows.num_rows, [r.reason for r in p.rejections]) for p in pieces]
    return f"rows and rejections {counts}"


def _hour(feed: StudyCounts) -> str:
    pieces = list(feed.headers(feed.entries(WINDOW).changes, range(200)))
    counts = [(p.rows.num_rows, [r.reason for r in p.rejections]) for p in pieces]
    return f"rows and rejections {counts}"


_READS: Final[Mapping[str, Callable[[StudyCounts], str]]] = {
    "light": lambda feed: f"{len(feed.entries(WINDOW).rejections)} rejections",
    "headers": _headers,
    "maps": _headers,
    "hour": _hour,
    "latest": lambda feed: f"latest {feed.latest()}",
    "search": lambda feed: f"{len(feed.page(None, 0, 200))} studies",
    "holders": lambda feed: f"{feed.holders(None, 'series', '1.2')} holders",
    "partitions": lambda feed: f"partitions {feed.partitions()}",
}


class _Once(Service):
    """Gives one body to every request, packed."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        packed = gzip.compress(body, compresslevel=1)
        self.before = lambda *_: Answer(body=packed, headers={"Content-Encoding": "gzip"})


class _Hour(Service):
    """An hour of 200 entries, of which one has a header of 80 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.add(*(entry(number, HOUR + number) for number in range(200)))
        large = {"00104000": {"vr": "LT", "Value": ["x" * 80_000_000]}}
        self.spoil = lambda request, rows: [
            row | {"metadata": row["metadata"] | large}
            if row["sequence"] == _LARGE and request.has_headers
            else row
            for row in rows
        ]


def measured(names: list[str]) -> Iterator[tuple[str, int, str, float, int]]:
    """Yield of each answer: its name, its requests, the end of its read, CPU seconds, peak MB."""
    spawn = multiprocessing.get_context("spawn")
    for name in names or [*ANSWERS, HOUR_OF_ONE]:
        kind, body = ANSWERS.get(name, ("hour", None))
        service = _Hour() if body is None else _Once(body())
        with Running(service) as running, ProcessPoolExecutor(1, spawn) as fresh:
            end, seconds, peak = fresh.submit(_read, running.url, kind).result()
        yield name, len(service.requests), end, seconds, peak


def main(names: list[str]) -> None:
    """Print the table, a line as soon as it is known."""
    console, table = Console(width=160), Table("answer", "requests", "CPU s", "peak MB", "end")
    for name, requests, end, seconds, peak in measured(names):
        console.print(f"{name}: {requests} requests, {seconds:.2f} s, {peak} MB; {end}"[:300])
        table.add_row(name, str(requests), f"{seconds:.2f}", str(peak), end[:60])
    console.print(table)


if __name__ == "__main__":
    main(list(itertools.islice(sys.argv, 1, None)))
