"""Faults of single entries, named by their sequence: late, poisoned, or hostile.

They hold on every page that has the entry, so a plan usually gives them for ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dicom_assets.emulator.archive import INT64_MAX
from dicom_assets_tests.adversary.answers import TEXT
from dicom_assets_tests.adversary.exchange import Answer, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dicom_assets.emulator.archive import Archive, ArchiveEntry
    from dicom_assets_tests.adversary.exchange import Asked, Service

_METADATA: Final = "metadata"
_BEFORE_HEADER: Final = b',"metadata":'


class _Named(msgspec.Struct):
    """The part of an entry by which it is found."""

    sequence: int


class Parts(NamedTuple):
    """An entry's sequence, its fields as their texts, and the text of its header, if it has one."""

    sequence: int
    fields: dict[str, msgspec.Raw]
    header: bytes


class Hide(Fault, frozen=True):
    """The entries are not yet visible: later rows move up, as before a late entry came."""

    sequences: frozenset[int]

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """Return the answer of a feed without the entries."""
        return await service(replace(asked, hidden=asked.hidden | self.sequences))


class PartialArchive:
    """An archive from whose feed some entries are missing, as if they were not yet written."""

    def __init__(self, archive: Archive, hidden: frozenset[int]) -> None:
        self._archive = archive
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all but the feed is the archive's
        """Return what the archive has by this name."""
        return getattr(self._archive, name)

    def entries(self, *, offset: int = 0, limit: int = 100, **options: Any) -> list[ArchiveEntry]:  # noqa: ANN401 - the archive's
        """Return the visible entries of the page. Limit and offset count what is visible."""
        first = min(offset + limit + len(self._hidden), INT64_MAX)
        return self._visible(self._archive.entries(limit=first, **options))[offset:][:limit]

    def entries_by_sequence(self, **options: Any) -> list[ArchiveEntry]:  # noqa: ANN401 - the archive's
        """Return the visible entries of the range of sequences."""
        return self._visible(self._archive.entries_by_sequence(**options))

    def latest(self, *, by_sequence: bool = False, header: bool = True) -> ArchiveEntry | None:
        """Return the newest visible entry, None if there is none."""
        entries = self._visible(self._archive.entries(limit=INT64_MAX, header=header))
        if by_sequence:
            entries.sort()
        return entries[-1] if entries else None

    def _visible(self, entries: list[ArchiveEntry]) -> list[ArchiveEntry]:
        return [one for one in entries if one.sequence not in self._hidden]


class Poison(Fault, frozen=True):
    """A header that cannot be read: every answer of the feed that would hold it fails."""

    sequences: frozenset[int]
    status: int = 500
    body: str = "An internal server error has occurred."

    def spoil(self, answer: Answer) -> Answer:
        """The failure, or the answer when it holds none of the headers."""
        if not any(map(self._is_poisoned, rows_of(answer))):
            return answer
        return Answer(self.status, (("content-type", TEXT),), self.body.encode())

    def _is_poisoned(self, row: bytes) -> bool:
        parts = parts_of(row)
        return parts is not None and parts.sequence in self.sequences and bool(parts.header)


class Override(Fault, frozen=True):
    """An entry as it never should be, in bytes that are sent unread (base64 in JSON).

    `entry` stands in place of the whole entry; `metadata` in place of its header, where one would
    be; each of `fields` in place of the field, or after the others; None leaves the field out.
    """

    sequence: int
    entry: bytes | None = None
    metadata: bytes | None = None
    fields: dict[str, bytes | None] = msgspec.field(default_factory=dict)

    def spoil(self, answer: Answer) -> Answer:
        """The answer, that entry replaced."""
        rows = answer.rows()
        if rows is not None:
            return answer.with_rows([self._replaced(row) for row in rows])
        return answer.with_body(self._replaced(answer.body)) if answer.is_success else answer

    def _replaced(self, row: bytes) -> bytes:
        parts = parts_of(row)
        if parts is None or parts.sequence != self.sequence:
            return row
        if self.entry is not None:
            return self.entry
        header = self.metadata if self.metadata is not None and parts.header else parts.header
        return spliced(parts.fields, {_METADATA: header or None, **self.fields})


def rows_of(answer: Answer) -> list[bytes]:
    """The entries of a page, or the one entry of `/latest`."""
    rows = answer.rows()
    if rows is not None:
        return rows
    return [answer.body] if answer.is_success else []


def parts_of(row: bytes) -> Parts | None:
    """The parts of an entry; None for what is no entry.

    The header is not read, whatever is in it: it is the last field, and none before can hold the
    text that leads to it.
    """
    head, mark, header = row.partition(_BEFORE_HEADER)
    head, header = (head + b"}", header[:-1]) if mark else (head, b"")
    try:
        sequence = msgspec.json.decode(head, type=_Named).sequence
        return Parts(sequence, msgspec.json.decode(head, type=dict[str, msgspec.Raw]), header)
    except msgspec.DecodeError:
        return None


def spliced(fields: Mapping[str, msgspec.Raw], changes: Mapping[str, bytes | None]) -> bytes:
    """A JSON object of the fields, some replaced by these bytes, whatever they are, or left out."""
    texts: dict[str, bytes | msgspec.Raw | None] = {**fields, **changes}
    pairs = [
        msgspec.json.encode(name) + b":" + bytes(text)
        for name, text in texts.items()
        if text is not None
    ]
    return b"{" + b",".join(pairs) + b"}"
