"""Faults of single entries, named by their sequence: late, poisoned, or hostile.

They hold on every page that has the entry, so a plan usually gives them for ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from dicom_assets.emulator.faults.answers import TEXT
from dicom_assets.emulator.faults.exchange import Answer, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dicom_assets.emulator.faults.exchange import Asked, Service

_METADATA: Final = "metadata"
Fields = dict[str, msgspec.Raw]


class _Named(msgspec.Struct):
    """The part of an entry by which it is found."""

    sequence: int
    metadata: msgspec.Raw = msgspec.Raw()


class Hide(Fault, frozen=True):
    """The entries are not yet visible: later rows move up, as before a late entry came."""

    sequences: frozenset[int]

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """What the feed answers without the entries."""
        return await service(replace(asked, hidden=asked.hidden | self.sequences))


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
        entry = named(row)
        return entry is not None and entry.sequence in self.sequences and bool(entry.metadata)


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
        entry = named(row)
        if entry is None or entry.sequence != self.sequence:
            return row
        if self.entry is not None:
            return self.entry
        return spliced(row, self._changes(has_header=bool(entry.metadata)))

    def _changes(self, *, has_header: bool) -> dict[str, bytes | None]:
        if self.metadata is None or not has_header:
            return self.fields
        return {**self.fields, _METADATA: self.metadata}


def rows_of(answer: Answer) -> list[bytes]:
    """The entries of a page, or the one entry of `/latest`."""
    rows = answer.rows()
    if rows is not None:
        return rows
    return [answer.body] if answer.is_success else []


def named(row: bytes) -> _Named | None:
    """What an entry says of itself; None for what is no entry."""
    try:
        return msgspec.json.decode(row, type=_Named)
    except msgspec.DecodeError:
        return None


def spliced(row: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """The JSON object with some of its values replaced by these bytes, whatever they are."""
    fields: dict[str, bytes | None] = dict(msgspec.json.decode(row, type=Fields)) | dict(changes)
    texts = [
        msgspec.json.encode(name) + b":" + bytes(value)
        for name, value in fields.items()
        if value is not None
    ]
    return b"{" + b",".join(texts) + b"}"
