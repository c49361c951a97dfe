"""Checks that a table is plain Delta, on its files and without the project's code.

Reader 1, writer 2 and no feature that asks for more; times that are instants, in whole
microseconds; zstd; and nothing in the log that outlives a header.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Action = dict[str, Any]

PROTOCOL: Final = {"minReaderVersion": 1, "minWriterVersion": 2}
TYPES: Final = frozenset({"string", "integer", "long", "double", "date", "timestamp"})
HEADERS: Final = ("metadata", "metadata_string")
_ON: Final = ("delta.columnMapping.mode", "delta.enableDeletionVectors", "delta.feature.")
_OFF: Final = frozenset({"none", "false"})


def violations(table: Path) -> list[str]:
    """Return in what a table on disk is not plain Delta; nothing for one that does not exist."""
    actions = list(_actions(table / "_delta_log"))
    files = _active(actions)
    told = [line for action in actions for line in _of_action(action)]
    told += [line for path in files for line in _of_file(table / unquote(path))]
    return sorted(set(told))


def _actions(log: Path) -> Iterator[Action]:
    """Every action of the checkpoints, then of the commits that are left, oldest first."""
    checkpoints = sorted(log.glob("*.checkpoint*.parquet"))
    for path in checkpoints:
        for row in pq.read_table(path).to_pylist():
            action = {kind: _plain(told) for kind, told in row.items() if told is not None}
            # The newest one holds all files. Those of an older one may be gone.
            yield action if path == checkpoints[-1] else {"commitInfo": {}, "old": action}
    newest = checkpoints[-1].name[:20] if checkpoints else ""
    for path in sorted(log.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            action = json.loads(line)
            # What the checkpoint holds came before it; the actions themselves are still looked at.
            yield action if path.stem > newest else {"commitInfo": {}, "old": action}


def _plain(told: Any) -> Any:  # noqa: ANN401 - an action as Parquet has it
    """Maps come as lists of pairs."""
    if not isinstance(told, dict):
        return told
    maps = ("configuration", "partitionValues", "tags")
    return {n: dict(v) if n in maps and v is not None else v for n, v in told.items()}


def _active(actions: list[Action]) -> list[str]:
    paths: dict[str, None] = {}
    for action in actions:
        if "add" in action:
            paths[action["add"]["path"]] = None
        elif "remove" in action:
            paths.pop(action["remove"]["path"], None)
    return list(paths)


def _of_action(action: Action) -> Iterator[str]:
    for kind, told in {**action, **action.get("old", {})}.items():
        if kind == "protocol":
            yield from _of_protocol(told)
        elif kind == "metaData":
            yield from _of_metadata(told)
        elif kind in {"add", "remove"}:
            yield from _of_entry(told)


def _of_protocol(told: Action) -> Iterator[str]:
    held = {name: value for name, value in told.items() if value}
    if held != PROTOCOL:
        yield f"protocol: {held}"


def _of_metadata(told: Action) -> Iterator[str]:
    for name, value in told["configuration"].items():
        if name.startswith(_ON) and value.lower() not in _OFF:
            yield f"property: {name} = {value}"
    schema = json.loads(told["schemaString"])
    for field in schema["fields"]:
        if isinstance(field["type"], str) and field["type"] not in TYPES:
            yield f"type: {field['name']} is {field['type']}"
        if any(name.startswith("delta.columnMapping") for name in field["metadata"]):
            yield f"column mapping: {field['name']}"


def _of_entry(told: Action) -> Iterator[str]:
    if told.get("deletionVector"):
        yield "a deletion vector"
    if "zstd" not in told["path"] and "snappy" in told["path"]:
        yield "a file is snappy by its name"
    statistics = json.loads(told.get("stats") or "{}")
    for part in ("minValues", "maxValues", "nullCount"):
        for name in set(statistics.get(part) or ()) & set(HEADERS):
            yield f"statistics: {part} of {name}"


def _of_file(path: Path) -> Iterator[str]:
    """Return what is not plain in a data file: its times, its compression, its statistics."""
    with pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema
    for index in range(len(schema)):
        column = schema.column(index)
        if column.physical_type == "INT96":
            yield f"INT96: {column.path}"
        kind = json.loads(column.logical_type.to_json())
        if kind["Type"] == "Timestamp" and not _is_plain_time(column.physical_type, kind):
            yield f"time: {column.path} is {column.physical_type} {kind}"
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            yield from _of_chunk(metadata.row_group(group).column(index))


def _is_plain_time(physical: str, kind: Action) -> bool:
    return physical == "INT64" and kind["isAdjustedToUTC"] and kind["timeUnit"] == "microseconds"


def _of_chunk(chunk: Any) -> Iterator[str]:  # noqa: ANN401 - of a private class of pyarrow
    top = chunk.path_in_schema.partition(".")[0]
    if chunk.compression != "ZSTD":
        yield f"compression: {chunk.compression.lower()}"
    if top in HEADERS and chunk.is_stats_set:
        yield f"statistics: of {top} in a file"
