"""Single entries: hidden ones, and those that are spliced anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_assets_tests.adversary.entries import PartialArchive, parts_of, spliced
from dicom_assets_tests.emulator.test_archive import header

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive


def test_hidden_entries_leave_no_hole(archive: Archive) -> None:
    """Limits and offsets count what is seen; an archive of hidden ones is empty."""
    for sop in (1, 2, 3):
        archive.store(header(sop))
    assert [one.sequence for one in _without(archive, 1).entries(limit=1)] == [2]
    assert [one.sequence for one in _without(archive, 1).entries(offset=1)] == [3]
    assert [one.sequence for one in _without(archive, 2, 3).entries_by_sequence()] == [1]
    for by_sequence in (False, True):
        newest = _without(archive, 3).latest(by_sequence=by_sequence)
        assert newest is not None
        assert newest.sequence == 2
        assert _without(archive, 1, 2, 3).latest(by_sequence=by_sequence) is None


def _without(archive: Archive, *hidden: int) -> PartialArchive:
    return PartialArchive(archive, frozenset(hidden))


def test_an_object_is_spliced_without_being_read() -> None:
    """Values keep their bytes, others are replaced in place, left out or put at the end."""
    parts = parts_of(b'{"sequence":1, "a": 1.50 ,"b":[1, 2],"c":{},"metadata":{"\xff":"\\ud800"}}')
    assert parts is not None
    assert (parts.sequence, parts.header) == (1, b'{"\xff":"\\ud800"}')
    assert spliced(parts.fields, {}) == b'{"sequence":1,"a":1.50,"b":[1, 2],"c":{}}'
    changes = {"a": b"\xff", "b": None, "d": b"{"}
    assert spliced(parts.fields, changes) == b'{"sequence":1,"a":\xff,"c":{},"d":{}'
    for row in (b"7", b"", b"null", b"[]", b"{}", b'{"sequence":"x"}', b'{"sequence":1'):
        assert parts_of(row) is None
