"""Whether the tables are as this version makes them: columns, Delta's own features, properties.

What would be refused at the next commit is told before it; and what somebody else has switched on,
which readers that the project promises may not know.
"""

from collections.abc import Iterator
from typing import Final

from dicom_assets.schema import Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.snapshot import (
    CONFIGURATION,
    RETENTION,
    Border,
    Delta,
    Store,
    arrow_schema,
    open_delta,
)

READER, WRITER = 1, 2
# Features that make a table unreadable for engines that know reader 1 only.
_OFF: Final = {"delta.enableDeletionVectors": "false", "delta.columnMapping.mode": "none"}


def differences(store: Store) -> dict[str, list[str]]:
    """Return by table in what it differs from what this version expects; names and numbers only.

    A table that is not there yet differs in nothing, nor does one that lacks an added column.
    """
    found = {}
    for table in (store.tables.get(t.name, t) for t in TABLES):
        with Border(table, store.urls[table.name]):
            delta = open_delta(store.urls[table.name], store.options)
            told = [] if delta is None else list(_told(table, delta, store.retention_hours))
        if told:
            found[table.name] = told
    return found


def _told(table: Table, delta: Delta, retention_hours: int) -> Iterator[str]:
    yield from _columns(table, delta)
    yield from _protocol(delta)
    yield from _properties(delta, retention_hours)


def _columns(table: Table, delta: Delta) -> Iterator[str]:
    held = {f.name: f.type for f in arrow_schema(delta)}
    own = [column.name for column in table.columns if not column.added]
    missing = [name for name in own if name not in held]
    wrong = [c.name for c in table.columns if c.name in held and not held[c.name].equals(c.type)]
    if missing:
        yield f"columns are missing: {', '.join(missing)}"
    if wrong:
        yield f"columns have another type: {', '.join(wrong)}"
    if not missing and [name for name in held if name in own] != own:
        yield "the columns have another order"
    if list(delta.metadata().partition_columns) != table.partition_columns:
        yield f"the files do not lie by {', '.join(table.partition_columns) or 'nothing'}"


def _protocol(delta: Delta) -> Iterator[str]:
    protocol = delta.protocol()
    versions = (protocol.min_reader_version, protocol.min_writer_version)
    if versions != (READER, WRITER):
        asked, expected = (f"reader {r} and writer {w}" for r, w in (versions, (READER, WRITER)))
        yield f"it asks for {asked}, not for {expected}"
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    if features:
        yield f"it asks for the features {', '.join(sorted(features))}"


def _properties(delta: Delta, retention_hours: int) -> Iterator[str]:
    told = delta.metadata().configuration
    kept = f"interval {retention_hours} hours"
    if told.get(RETENTION, kept) != kept:
        yield f"{RETENTION} is not {kept}"
    # What its owner has set to another value stays; a table that is taken over gets what it lacks.
    unset = [name for name in (*CONFIGURATION, RETENTION) if name not in told]
    if unset:
        yield f"properties are missing: {', '.join(unset)}"
    on = [name for name, off in _OFF.items() if told.get(name, off).lower() != off]
    if on:
        yield f"switched on: {', '.join(on)}"
