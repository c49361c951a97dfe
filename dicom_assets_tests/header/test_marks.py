"""Headers of any size cost what their marks allow: values beyond that are null, and counted."""

import pytest

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.header import extraction
from dicom_assets.header.marks import MOST_MARKS, has_too_many, marks
from dicom_assets_tests.support.entries import entry, header, page


def of(tag: str, values: bytes) -> Entry:
    """Return an entry whose header has an attribute of these values."""
    own = header() | {tag: "HERE"}
    body = page(entry(metadata=dict(sorted(own.items()))))
    [(_, row)] = decode_page(body.replace(b'"HERE"', b'{"vr":"LO","Value":[' + values + b"]}"))
    assert isinstance(row, Entry)
    return row


def test_marks_are_brackets_commas_and_quotes() -> None:
    """Those in strings count, too: it is an upper bound."""
    assert marks(b'{"a": [1, "[,"]}') == 4 + 3 + 4
    assert not has_too_many(b'"' * 10, 10)
    assert has_too_many(b'"' * 11, 10)
    assert not has_too_many(b"x" * 11, 10)


@pytest.mark.parametrize("count", [1, MOST_MARKS - 10, MOST_MARKS + 10])
def test_an_attribute_of_too_many_values_is_null_and_counted(count: int) -> None:
    """The row lands with the header whole."""
    one = of("00081030", b",".join([b"1"] * count))
    rows, rejections, unparsable = RowReader().read([one])
    assert rejections == []
    [row] = rows.to_pylist()
    assert one.header is not None
    assert row["metadata_string"] == one.header.decode()
    is_read = count < MOST_MARKS
    assert row["studydescription"] == ("\\".join(["1"] * count) if is_read else None)
    assert unparsable == ({} if is_read else {"studydescription: not text": 1})


def test_many_attributes_share_the_marks_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a page of them costs no more than one, and an attribute of usual size is kept."""
    monkeypatch.setattr(extraction, "_FEW_BYTES", 0)
    monkeypatch.setattr(extraction, "MOST_MARKS", 2_000)
    entries = [of("00081030", b",".join([b"1"] * count)) for count in (500, 500, 500, 500, 1)]
    rows, rejections, unparsable = RowReader().read(entries)
    assert rejections == []
    described = rows["studydescription"].to_pylist()
    assert [text is None for text in described] == [False, False, False, True, False]
    assert unparsable == {"studydescription: not text": 1}


@pytest.mark.parametrize("form", ["map", "both"])
def test_a_header_of_too_many_marks_is_no_map(form: str) -> None:
    """It would be objects by the million. The text form has no such limit."""
    one = of("00091001", b",".join([b"1"] * MOST_MARKS))
    rows, [rejection], _ = RowReader(header_columns=form).read([one])
    assert rows.num_rows == 0
    assert rejection.reason == "header is too large for a map"
    assert RowReader(header_columns=form).read([of("00091001", b"1")])[0].num_rows == 1
