"""Entries with their headers to rows of `instance`.

What a row shows of its header is made in `header`; what it shows of its entry is made here, and an
entry whose header cannot be its own is set aside. Pages and entries are in `decode`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from dicom_assets.feed.decode import Entry
from dicom_assets.feed_contract import Rejection
from dicom_assets.header.extraction import Extraction, Header, extraction, header_map
from dicom_assets.schema import INSTANCE, Table
from dicom_assets.settings import HEADER_COLUMNS
from dicom_assets.window import TICKS_PER_MICROSECOND

# What of a row is not in its header.
_FROM_ENTRY: Final[dict[str, Callable[[Entry], object]]] = {
    "partitionName": lambda entry: entry.partition,
    "studyinstanceuid": lambda entry: entry.study,
    "seriesinstanceuid": lambda entry: entry.series,
    "sopinstanceuid": lambda entry: entry.sop,
    "lastModifiedTimestamp": lambda entry: entry.ticks // TICKS_PER_MICROSECOND,
    "filepath": lambda entry: entry.file_path,
    "sequence": lambda entry: entry.sequence,
}


@dataclass(frozen=True)
class RowReader:
    """How rows are made: the columns of `instance`, and what times without an offset mean.

    `zone` is a name of the IANA data base, None when nobody knows; `header_columns` says in which
    form the header itself is kept: string, map or both.
    """

    table: Table = INSTANCE
    zone: str | None = None
    header_columns: str = HEADER_COLUMNS[0]

    @cached_property
    def _extraction(self) -> Extraction:
        shown = tuple(c for c in self.table.columns if c.name not in _FROM_ENTRY)
        return extraction(replace(self.table, columns=shown), self.zone)

    @cached_property
    def _schema(self) -> pa.Schema:
        return self.table.arrow()

    def read(self, entries: Sequence[Entry]) -> tuple[pa.Table, list[Rejection], Counter[str]]:
        """Return the rows of `instance` for entries with a header.

        Beside them: the entries whose header cannot be used, and by `column: reason` how many
        values did not parse and became null.
        """
        usable, rejections = [], []
        for entry in entries:
            read = self._read(entry)
            if isinstance(read, str):
                rejections.append(Rejection(entry.sequence, entry.ticks, read))
            else:
                usable.append((entry, *read))
        table, unparsable = self._table(usable)
        return table, rejections, unparsable

    def _read(self, entry: Entry) -> tuple[str, Header] | str:
        """Return a header as text and decoded, or the reason why it cannot be used."""
        if entry.header is None:
            return "header absent"
        header = self._extraction.decode(entry.header)
        try:
            text = entry.header.decode()
        except UnicodeDecodeError:
            header, text = None, ""
        if header is None:
            return "header cannot be decoded"
        if not self._extraction.is_of(header, (entry.study, entry.series, entry.sop)):
            return "header is of another instance"
        return text, header

    def _table(self, usable: list[tuple[Entry, str, Header]]) -> tuple[pa.Table, Counter[str]]:
        entries = [entry for entry, _, _ in usable]
        columns, unparsable = self._extraction.columns([header for _, _, header in usable])
        for name, of_entry in _FROM_ENTRY.items():
            columns[name] = [of_entry(entry) for entry in entries]
        columns |= self._headers(usable)
        schema = self._schema
        nothing: list[Any] = [None] * len(usable)
        arrays = [pa.array(columns.get(field.name, nothing), field.type) for field in schema]
        return pa.table(arrays, schema=schema), unparsable

    def _headers(self, usable: list[tuple[Entry, str, Header]]) -> dict[str, list[Any]]:
        kept: dict[str, list[Any]] = {}
        if self.header_columns != "map":
            kept["metadata_string"] = [text for _, text, _ in usable]
        if self.header_columns != "string":
            kept["metadata"] = [header_map(entry.header or b"") for entry, _, _ in usable]
        return kept
