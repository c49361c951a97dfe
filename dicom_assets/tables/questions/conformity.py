"""Conformity of the tables with this version: columns, Delta protocol, table properties.

It reports in advance differences that the next commit would refuse, and features that somebody else
has switched on and that promised readers may not know.
"""

from collections.abc import Iterator
from typing import Final

from dicom_assets.schema import Table
from dicom_assets.tables.delta.commit import FIXED_PROPERTIES, RETENTION, arrow_schema
from dicom_assets.tables.delta.handles import open_delta
from dicom_assets.tables.delta.snapshot import Delta, Store
from dicom_assets.tables.delta.table_errors import raise_table_errors

READER, WRITER = 1, 2
# Features that readers of protocol 1 cannot read, with the values that switch them off.
_OFF: Final = {"delta.enableDeletionVectors": "false", "delta.columnMapping.mode": "none"}


def deviations(store: Store) -> dict[str, list[str]]:
    """Return by table the deviations from this version, in sentences with names and numbers only.

    An absent table deviates in nothing. A missing added column is no deviation.
    """
    sentences = {}
    for table in store.tables.values():
        with raise_table_errors(table, store.urls[table.name]):
            delta = open_delta(store.urls[table.name], store.options_of(table))
            if delta is not None:
                settings = _settings(delta, store.retention_hours)
                sentences[table.name] = [*_columns(table, delta), *settings]
    return {name: lines for name, lines in sentences.items() if lines}


def _columns(table: Table, delta: Delta) -> Iterator[str]:
    types = {f.name: f.type for f in arrow_schema(delta)}
    own = [c.name for c in table.columns if not c.added]
    missing = [name for name in own if name not in types]
    wrong = [c.name for c in table.columns if c.name in types and not types[c.name].equals(c.type)]
    if missing:
        yield f"columns are missing: {', '.join(missing)}"
    if wrong:
        yield f"columns have another type: {', '.join(wrong)}"
    if not missing and [name for name in types if name in own] != own:
        yield "the columns have another order"
    if list(delta.metadata().partition_columns) != table.partition_columns:
        yield f"the files do not lie by {', '.join(table.partition_columns) or 'nothing'}"


def _settings(delta: Delta, retention_hours: int) -> Iterator[str]:
    protocol = delta.protocol()
    versions = (protocol.min_reader_version, protocol.min_writer_version)
    if versions != (READER, WRITER):
        actual, expected = (f"reader {r} and writer {w}" for r, w in (versions, (READER, WRITER)))
        yield f"it asks for {actual}, not for {expected}"
    features = {*(protocol.reader_features or ()), *(protocol.writer_features or ())}
    if features:
        yield f"it asks for the features {', '.join(sorted(features))}"
    properties = delta.metadata().configuration
    kept = f"interval {retention_hours} hours"
    if properties.get(RETENTION, kept) != kept:
        yield f"{RETENTION} is not {kept}"
    # Other values are the owner's choice. A table that was taken over may lack properties.
    unset = [name for name in (*FIXED_PROPERTIES, RETENTION) if name not in properties]
    if unset:
        yield f"properties are missing: {', '.join(unset)}"
    on = [name for name, off in _OFF.items() if properties.get(name, off).lower() != off]
    if on:
        yield f"switched on: {', '.join(on)}"
