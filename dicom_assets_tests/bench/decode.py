"""Decode: pages of the feed to Arrow, all default columns of `instance`, against plain JSON.

The headers are those of pydicom's real files as the emulator serves them, each instance with UIDs
and an instance number of its own. The other side decodes a page whole, with the standard library
or with orjson, looks attributes up in the dictionaries, and parses values by the same functions.
"""

from __future__ import annotations

import itertools
import json
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.header import values as v
from dicom_assets.header.extraction import extraction, parser_of
from dicom_assets.schema import INSTANCE, Path
from dicom_assets.window import TICKS_PER_MICROSECOND, parse_timestamp
from dicom_assets_tests.bench.headers import dumped, entry, real
from dicom_assets_tests.bench.measure import Measured, alternately

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    pages = list(_pages())
    assert _theirs(pages[0], json.loads, dumped).equals(_ours([pages[0]])[0])
    loads: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], str]]] = {
        "stdlib": (json.loads, dumped),
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


def _pages() -> Iterator[bytes]:
    made = map(entry, range(INSTANCES), itertools.cycle(real()))
    while page := list(itertools.islice(made, PER_PAGE)):
        yield b"[" + b",".join(page) + b"]"


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
    for one in load(page):
        header = one["metadata"]
        found["metadata_string"].append(dump(header))
        ticks = parse_timestamp(one["timestamp"])
        found["lastModifiedTimestamp"].append(ticks // TICKS_PER_MICROSECOND)
        for name, field in _FIELDS.items():
            found[name].append(one[field])
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
