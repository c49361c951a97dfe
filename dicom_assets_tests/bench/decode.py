"""Decode: pages of the feed to Arrow, all default columns of `instance`, against plain JSON.

The headers are those of pydicom's real files as the emulator serves them, each instance with UIDs
and an instance number of its own. The other side decodes a page whole, with the standard library
or with orjson, looks attributes up in the dictionaries, and parses values by the same functions.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path as File
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from dicom_assets.emulator import sample
from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.header import values as v
from dicom_assets.header.extraction import extraction, parser_of
from dicom_assets.schema import INSTANCE, Path
from dicom_assets.window import TICKS_PER_MICROSECOND, parse_timestamp
from dicom_assets_tests.bench.measure import Measured, alternately

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicom_assets.emulator.archive import Archive

INSTANCES: Final = 10_000
PER_PAGE: Final = 200
ROUNDS: Final = 7
_FIELDS: Final = {
    "partitionName": "partitionName",
    "studyinstanceuid": "studyInstanceUid",
    "seriesinstanceuid": "seriesInstanceUid",
    "sopinstanceuid": "sopInstanceUid",
    "filepath": "filePath",
    "sequence": "sequence",
}
_COLUMNS: Final = [c for c in INSTANCE.columns if c.paths and c.name not in _FIELDS]
_PARSERS: Final = {c.name: parser_of(c, None) for c in _COLUMNS}


def measure() -> Iterator[Measured]:
    """Yield the ratios of decode: how many times longer the others take."""
    pages = list(_pages(_headers()))
    assert _theirs(pages[0], json.loads, _dumped).equals(_ours([pages[0]])[0])
    loads: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], str]]] = {
        "stdlib": (json.loads, _dumped),
        "orjson": (orjson.loads, lambda header: orjson.dumps(header).decode()),
    }
    for name, (load, dump) in loads.items():
        ours, theirs = alternately(
            lambda: _ours(pages),
            lambda load=load, dump=dump: [_theirs(page, load, dump) for page in pages],  # type: ignore[misc] # bound
            rounds=ROUNDS,
        )
        yield Measured(
            f"decode_vs_{name}",
            median(t / o for o, t in zip(ours, theirs, strict=True)),
            {
                "instances_per_second": round(INSTANCES / median(ours)),
                "theirs_per_second": round(INSTANCES / median(theirs)),
                "header_bytes": sum(map(len, pages)) // INSTANCES,
            },
        )


def _headers() -> list[dict[str, Any]]:
    """Return the headers of pydicom's files, as the emulator serves them."""
    with tempfile.TemporaryDirectory() as folder:
        first = datetime(2026, 1, 1, tzinfo=UTC)
        archive: Archive = sample.prepare(File(folder) / "archive", first_hour=first)
        return [instance.header for instance in archive.instances()]


def _pages(headers: list[dict[str, Any]]) -> Iterator[bytes]:
    made = (_entry(n, header) for n, header in zip(range(INSTANCES), itertools.cycle(headers)))
    while page := list(itertools.islice(made, PER_PAGE)):
        yield b"[" + b",".join(page) + b"]"


def _entry(number: int, header: dict[str, Any]) -> bytes:
    uids = {"0020000D": "study", "0020000E": "series", "00080018": "sop"}
    own = {
        "00080018": {"vr": "UI", "Value": [f"1.2.826.0.1.3680043.8.498.{number}"]},
        "00200013": {"vr": "IS", "Value": [number]},
    }
    shown = dict(sorted((header | own).items()))
    fields = {
        "sequence": number + 1,
        "partitionName": "Microsoft.Default",
        **{f"{name}InstanceUid": shown[tag]["Value"][0] for tag, name in uids.items()},
        "action": "Create",
        "timestamp": f"2026-01-01T00:00:00.{number:07d}Z",
        "state": "Current",
        "filePath": None,
        "metadata": shown,
    }
    return _dumped(fields).encode()


def _dumped(what: object) -> str:
    return json.dumps(what, separators=(",", ":"), ensure_ascii=False)


def _ours(pages: list[bytes]) -> list[pa.Table]:
    # Nothing is remembered from the round before.
    extraction.cache_clear()
    reader = RowReader()
    return [
        reader.read([row for _, row in decode_page(page) if isinstance(row, Entry)])[0]
        for page in pages
    ]


def _theirs(page: bytes, load: Callable[[bytes], Any], dump: Callable[[Any], str]) -> pa.Table:
    found: dict[str, list[Any]] = {name: [] for name in INSTANCE.names}
    for entry in load(page):
        header = entry["metadata"]
        found["metadata_string"].append(dump(header))
        ticks = parse_timestamp(entry["timestamp"])
        found["lastModifiedTimestamp"].append(ticks // TICKS_PER_MICROSECOND)
        for name, field in _FIELDS.items():
            found[name].append(entry[field])
        for column in _COLUMNS:
            value = _PARSERS[column.name](*[_looked_up(header, p) for p in column.paths])
            found[column.name].append(None if isinstance(value, v.Unparsable) else value)
    rows = len(found["sequence"])
    schema = INSTANCE.arrow()
    arrays = [pa.array(found[f.name] or [None] * rows, f.type) for f in schema]
    return pa.table(arrays, schema=schema)


def _looked_up(header: dict[str, Any], path: Path) -> Any:  # noqa: ANN401 - JSON
    *outer, last = path.steps
    for step in outer:
        items = header.get(step.attribute.tag, {}).get("Value") or [{}]
        header = items[step.index] if step.index < len(items) else {}
    values = header.get(last.attribute.tag, {}).get("Value")
    return values if values is None or last.index < 0 else values[last.index : last.index + 1]
