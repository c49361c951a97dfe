"""Entries to rows of `change`, and with their headers to rows of `instance`.

The columns made of the header come from `header`, those made of the entry from here. An entry with
the header of another instance is rejected.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, TypeAlias

import pyarrow as pa

from dicom_assets.feed.decode import Entry
from dicom_assets.feed_contract import Rejection
from dicom_assets.header.extraction import Extraction, Header, extraction, header_map
from dicom_assets.header.marks import has_too_many
from dicom_assets.schema import CHANGE, INSTANCE, Table
from dicom_assets.settings import HEADER_COLUMNS
from dicom_assets.window import TICKS_PER_MICROSECOND

_Sources: TypeAlias = dict[str, Callable[[Entry], Any]]
_OF_BOTH: Final[_Sources] = {
    "partitionName": attrgetter("partition"),
    "studyinstanceuid": attrgetter("study"),
    "seriesinstanceuid": attrgetter("series"),
    "sopinstanceuid": attrgetter("sop"),
    "filepath": attrgetter("file_path"),
    "sequence": attrgetter("sequence"),
}
_OF_CHANGE: Final[_Sources] = _OF_BOTH | {
    "action": attrgetter("action"),
    "timestamp": lambda entry: entry.ticks // TICKS_PER_MICROSECOND,
    "timestamp_ticks": attrgetter("ticks"),
    "state": attrgetter("state"),
}
# The columns of `instance` that are made of the entry, not of its header.
_FROM_ENTRY: Final[_Sources] = _OF_BOTH | {"lastModifiedTimestamp": _OF_CHANGE["timestamp"]}


def change_rows(entries: Iterable[Entry]) -> pa.Table:
    """Return entries as rows of `change`, ordered by (timestamp_ticks, sequence)."""
    entries = sorted(entries, key=attrgetter("ticks", "sequence"))
    schema = CHANGE.arrow()
    arrays = [pa.array(list(map(_OF_CHANGE[f.name], entries)), f.type) for f in schema]
    return pa.table(arrays, schema=schema)


@dataclass(frozen=True)
class RowReader:
    """A reader of entries for one form of `instance`.

    `zone` (IANA) is the time zone of DICOM times without offset, None when it is unknown.
    `header_columns` is the form in which the header itself is kept: string, map or both.
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
        """Return entries with headers as rows of `instance`.

        Also returns a Rejection for each unusable header, and by `column: reason` the number of
        values that did not parse and became null.
        """
        usable, rejections = [], []
        for entry in entries:
            header = self._read(entry)
            if isinstance(header, str):
                rejections.append(Rejection(entry.sequence, entry.ticks, header))
            else:
                usable.append((entry, header))
        entries = [entry for entry, _ in usable]
        columns, unparsable = self._extraction.columns([header for _, header in usable])
        for name, of_entry in _FROM_ENTRY.items():
            columns[name] = list(map(of_entry, entries))
        if self.header_columns != "map":
            # As bytes: a text of each would be one more copy of it.
            columns["metadata_string"] = [entry.header for entry in entries]
        if self.header_columns != "string":
            columns["metadata"] = [header_map(entry.header or b"") for entry in entries]
        nothing: list[Any] = [None] * len(usable)
        arrays = [pa.array(columns.get(field.name, nothing), field.type) for field in self._schema]
        return pa.table(arrays, schema=self._schema), rejections, unparsable

    def _read(self, entry: Entry) -> Header | str:
        """Return a header decoded, or the reason why it is unusable."""
        if entry.header is None:
            return "header absent"
        header = self._extraction.decode(entry.header)
        try:
            entry.header.decode()
        except UnicodeDecodeError:
            header = None
        if header is None:
            return "header cannot be decoded"
        if not self._extraction.is_of(header, (entry.study, entry.series, entry.sop)):
            # PS3.18 F.2.2 wants upper case. The tag of the study has a letter.
            is_lower = b'"0020000d"' in entry.header
            return "header has lower-case tags" if is_lower else "header is of another instance"
        if self.header_columns != "string" and has_too_many(entry.header):
            return "header is too large for a map"
        return header
