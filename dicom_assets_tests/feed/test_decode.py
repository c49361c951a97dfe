"""A page's bytes become entries. An unusable one costs no other."""

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.errors import MiscountError
from dicom_assets.feed import decode
from dicom_assets.feed.decode import Entry, MalformedError, decode_page, field_names, split
from dicom_assets.feed_contract import Rejection
from dicom_assets.header.marks import MOST_MARKS
from dicom_assets_tests.support.entries import (
    SERIES,
    SOP,
    STUDY,
    TICKS,
    Json,
    entry,
    header,
    page,
)


def only(body: bytes) -> Entry | Rejection:
    """Return the only row of a page."""
    [(_, row)] = decode_page(body)
    return row


def test_an_entry_of_the_captured_form_is_read() -> None:
    """Every field arrives, the timestamp with its seventh digit, the header verbatim."""
    row = only(page(entry(filePath="Microsoft.Default/1.dcm")))
    assert row == Entry(
        sequence=1263,
        ticks=16_693_658_523_524_895,
        partition="Microsoft.Default",
        study="1.2.826.0.1.3680043.8.498.13",
        series="1.2.826.0.1.3680043.8.498.77",
        sop="1.2.826.9",
        action="Create",
        state="Current",
        file_path="Microsoft.Default/1.dcm",
        header=json.dumps(header(), separators=(",", ":")).encode(),
    )
    assert row.key == ("Microsoft.Default", STUDY, SERIES, SOP)


def test_the_header_keeps_its_bytes() -> None:
    """Spaces, order and escapes of the header are the service's, not ours."""
    raw = b'{ "00100020" : {"Value":["\\u00e9"],  "vr":"LO"} ,"00080005":{"vr":"CS"}}'
    body = page(entry(metadata="HERE")).replace(b'"HERE"', raw)
    row = only(body)
    assert isinstance(row, Entry)
    assert row.header == raw


@pytest.mark.parametrize("metadata", [None, "null"])
def test_no_header_is_none(metadata: str | None) -> None:
    """A header that is absent or null is no header. The entry stays usable."""
    body = page(entry(metadata=metadata, state="Deleted")).replace(b'"null"', b"null")
    row = only(body)
    assert isinstance(row, Entry)
    assert row.header is None
    assert row.state == "Deleted"


@pytest.mark.parametrize("action", ["create", "CREATE", "Create", "cREATE"])
@pytest.mark.parametrize("state", ["current", "CURRENT", "Current"])
def test_casing_of_action_and_state_is_ours(action: str, state: str) -> None:
    """The documents show several casings. One is emitted."""
    row = only(page(entry(action=action, state=state)))
    assert isinstance(row, Entry)
    assert (row.action, row.state) == ("Create", "Current")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"action": "Upsert"}, "unknown action"),
        ({"action": ""}, "unknown action"),
        ({"state": "Expired"}, "unknown state"),
        ({"timestamp": "2022-11-25T08:44:12"}, "timestamp cannot be read"),
        ({"timestamp": "2022-11-25"}, "timestamp cannot be read"),
        ({"timestamp": "2022-02-30T08:44:12Z"}, "timestamp cannot be read"),
        ({"timestamp": "0000-01-01T00:00:00Z"}, "timestamp cannot be read"),
        ({"timestamp": "10000-01-01T00:00:00Z"}, "timestamp cannot be read"),
        ({"timestamp": "2022-11-25T08:44:12.12345678Z"}, "timestamp cannot be read"),
        ({"timestamp": 5}, "timestamp is missing"),
        ({"timestamp": None}, "timestamp is missing"),
        ({"action": None}, "action is missing"),
        ({"action": 1}, "action is missing"),
        ({"state": None}, "state is missing"),
        ({"studyInstanceUid": None}, "studyInstanceUid is missing or malformed"),
        ({"studyInstanceUid": ""}, "studyInstanceUid is missing or malformed"),
        ({"studyInstanceUid": "1.2\n"}, "studyInstanceUid is missing or malformed"),
        ({"studyInstanceUid": "1" * 65}, "studyInstanceUid is missing or malformed"),
        ({"studyInstanceUid": " "}, "studyInstanceUid is missing or malformed"),
        ({"studyInstanceUid": " 1.2"}, "studyInstanceUid is missing or malformed"),
        ({"seriesInstanceUid": "1. 2"}, "seriesInstanceUid is missing or malformed"),
        ({"sopInstanceUid": " \0"}, "sopInstanceUid is missing or malformed"),
        ({"seriesInstanceUid": "1.2/3"}, "seriesInstanceUid is missing or malformed"),
        ({"seriesInstanceUid": ".."}, None),
        ({"seriesInstanceUid": "1.2'3"}, "seriesInstanceUid is missing or malformed"),
        ({"sopInstanceUid": "1.2%2F3"}, "sopInstanceUid is missing or malformed"),
        ({"sopInstanceUid": ["1.2"]}, "sopInstanceUid is missing or malformed"),
        ({"sopInstanceUid": "\u0661.\u0662"}, "sopInstanceUid is missing or malformed"),
        ({"partitionName": None}, "partitionName is missing or malformed"),
        ({"partitionName": ""}, "partitionName is missing or malformed"),
        ({"partitionName": "../x"}, "partitionName is missing or malformed"),
        ({"partitionName": "x" * 65}, "partitionName is missing or malformed"),
        ({"partitionName": "a b"}, "partitionName is missing or malformed"),
        ({"filePath": 5}, "filePath is not text"),
    ],
)
def test_what_cannot_be_used_is_a_rejection(fields: dict[str, object], reason: str | None) -> None:
    """The reason names the field, never its value, and the neighbours land."""
    rows = [row for _, row in decode_page(page(entry(1), entry(2, **fields), entry(3)))]
    assert [row.sequence for row in rows] == [1, 2, 3]
    assert isinstance(rows[0], Entry)
    assert isinstance(rows[2], Entry)
    if reason is None:
        assert isinstance(rows[1], Entry)
    else:
        assert isinstance(rows[1], Rejection)
        assert rows[1].reason == reason
        assert rows[1].ticks == (None if "timestamp" in fields else TICKS)


@pytest.mark.parametrize("padding", [" ", "\0", "  ", " \0"])
def test_padding_is_no_part_of_a_uid(padding: str) -> None:
    """Neither on a page of the usual form, nor on one with other names or a bad neighbour."""
    names = ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")
    uids = ("1." + "2" * 62, "1.2.3", "00.1")
    padded = {name: uid + padding for name, uid in zip(names, uids, strict=True)}
    capital = {name[0].upper() + name[1:]: value for name, value in entry(2, **padded).items()}
    for body in (page(entry(2, **padded)), page(capital), page(entry(2, **padded), 5)):
        row = decode_page(body)[0][1]
        assert isinstance(row, Entry)
        assert row.key == ("Microsoft.Default", *uids)


@pytest.mark.parametrize("sequence", ["-1", "9223372036854775808", "1.5", '"7"', "null", "{}"])
def test_a_sequence_that_is_no_int64_is_a_rejection_without_one(sequence: str) -> None:
    """Its time is known all the same."""
    body = page(entry(777), entry(3)).replace(b"777", sequence.encode())
    first, second = decode_page(body)
    assert first[1] == Rejection(None, TICKS, "sequence is missing or not a 64-bit number")
    assert first[0] < 0
    assert isinstance(second[1], Entry)


def test_a_sequence_may_be_as_large_as_an_int64() -> None:
    """Nothing is cut to 32 or 53 bits."""
    assert only(page(entry(9223372036854775807))).sequence == 9223372036854775807


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (b"null", "entry is not an object"),
        (b"5", "entry is not an object"),
        (b'"x"', "entry is not an object"),
        (b"[]", "entry is not an object"),
        (b'{"sequence":nul}', "entry cannot be decoded"),
        (b"{}", "sequence is missing or not a 64-bit number"),
    ],
)
def test_an_element_that_is_no_entry_is_a_rejection(element: bytes, reason: str) -> None:
    """Whatever stands in the array, the entries beside it land."""
    body = b"[" + element + b"," + page(entry(3))[1:]
    rows = [row for _, row in decode_page(body)]
    assert rows[0] == Rejection(None, None, reason)
    assert rows[1].sequence == 3


@pytest.mark.parametrize(
    "bad",
    [
        b'{"00100020":{"vr":"LO","Value":["\\ud800"]}}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    ],
    ids=["lone surrogate", "deep arrays", "deep objects"],
)
def test_a_header_that_breaks_the_page_costs_one_rejection(bad: bytes) -> None:
    """The rejection knows which entry it was."""
    body = page(entry(1), entry(2, metadata="HERE"), entry(3)).replace(b'"HERE"', bad)
    rows = [row for _, row in decode_page(body)]
    assert rows[1] == Rejection(2, TICKS, "header cannot be decoded")
    assert [type(row) for row in rows] == [Entry, Rejection, Entry]


def test_fields_nobody_knows_are_passed_over() -> None:
    """A newer service may say more."""
    assert isinstance(only(page(entry(extra={"a": [1]}, another="x"))), Entry)


def renamed(one: Json, change: Callable[[str], str], *names: str) -> Json:
    """Return an entry whose fields, or those named, have other names."""
    return {change(n) if not names or n in names else n: value for n, value in one.items()}


def capitalized(name: str) -> str:
    """Return a name as an example in the service's documentation has it."""
    return name[0].upper() + name[1:]


@pytest.mark.parametrize("change", [capitalized, str.upper, str.lower])
@pytest.mark.parametrize("names", [(), ("metadata",), ("filePath",), ("sequence", "filePath")])
@pytest.mark.parametrize("extra", [{}, {"extra": 1}])
def test_names_of_fields_are_read_in_any_case(
    change: Callable[[str], str], names: tuple[str, ...], extra: Json
) -> None:
    """Also those of fields that may be absent. The header inside keeps its bytes."""
    usual = entry(filePath="Microsoft.Default/1.dcm")
    assert only(page(renamed(usual, change, *names) | extra)) == only(page(usual))


@pytest.mark.parametrize(
    "bad", [{"action": "Upsert"}, {"metadata": {"00100010": "\ud800"}}, {"timestamp": "?"}]
)
def test_beside_an_unusable_entry_names_are_read_in_any_case_too(bad: Json) -> None:
    """The unusable one is a rejection with its sequence."""
    entries = [renamed(one, capitalized) for one in (entry(1), entry(2, **bad), entry(3))]
    rows = [row for _, row in decode_page(page(*entries))]
    assert [row.sequence for row in rows] == [1, 2, 3]
    assert [type(row) for row in rows] == [Entry, Rejection, Entry]


def test_of_two_names_that_differ_by_case_the_exact_one_counts() -> None:
    """Whichever comes first."""
    one = entry(7)
    for body in (page({"Sequence": 8, **one}), page(one | {"SEQUENCE": 8})):
        assert only(body).sequence == 7


def test_equal_entries_that_nobody_can_read_count_one_by_one() -> None:
    """And each is the same one when the page is read again, in another process too."""
    rows = decode_page(b'[null,{"a":1},null]')
    assert [identity for identity, _ in rows] == [
        identity for identity, _ in decode_page(b'[null, {"a":1}, null]')
    ]
    assert len(dict(rows)) == 3
    assert rows[0][0] == -8506443559713691651


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'[{"Doe^Jane":1,"id":"x","_a1":{"b":1},"1.2.3":4},{"c":1}]', ["id", "_a1"]),
        (b"[null,1]", []),
        (b'[{"a":nul},{}]', []),
        (b"[]", []),
    ],
)
def test_only_names_that_look_like_names_are_named(body: bytes, names: list[str]) -> None:
    """Another one could be a value, and no value is ever given."""
    assert field_names(body) == names


def test_an_entry_that_becomes_no_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements are counted before any of them is parsed."""
    monkeypatch.setattr(decode, "_rows", lambda *_: [])
    with pytest.raises(MiscountError, match=r"2 entries became 0 rows\. Nothing was sealed"):
        decode_page(page(entry(1), entry(2)))


def test_rows_without_a_sequence_are_told_apart_by_their_bytes() -> None:
    """So a page that is served twice does not count them twice."""
    once = dict(decode_page(b'[null,{"a":1},{"a":2}]'))
    again = dict(decode_page(b'[{"a":1}, {"a":2}, null]'))
    assert len(once) == 3
    assert once.keys() == again.keys()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"null",
        b"<html>[]</html>",
        b"[",
        b"[}",
        b"[1,2",
        b"[{]",
        b'[{"sequence":1}',
        b'[{"sequence":1}] x',
        b'[{"sequence":1}][]',
        b'["x]',
        b"[1,,2]",
        b"[1,]",
        page(entry(1), entry(2))[:-1],
        page(entry(1), entry(2))[:-200],
    ],
)
def test_what_is_no_whole_array_is_malformed(body: bytes) -> None:
    """It is never taken for a page, least of all for an empty one."""
    with pytest.raises(MalformedError):
        decode_page(body)


@given(st.data())
def test_no_beginning_of_a_page_is_a_page(data: st.DataObject) -> None:
    """Wherever an answer is cut off, it is noticed."""
    body = page(entry(1), entry(2, action="Upsert"), None)
    length = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(MalformedError):
        decode_page(body[:length])


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(JSON_VALUES), st.booleans())
def test_an_array_is_cut_into_its_elements(values: list[object], ascii_only: bool) -> None:
    """Brackets, commas and quotes inside of strings change nothing."""
    body = json.dumps(values, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert [json.loads(element) for element in split(body)] == values


@given(st.lists(JSON_VALUES))
def test_any_array_is_a_page(values: list[object]) -> None:
    """Whatever it holds, there are as many rows, and no error."""
    body = json.dumps(values).encode()
    assert len(decode_page(body)) == len(values)


@pytest.mark.parametrize("unit", [b"1", b"{}", b'""', b"[]", b"[[[]]]", b"nul"])
@pytest.mark.parametrize("end", [b"]", b"", b",nul]"], ids=["whole", "cut", "malformed"])
def test_splitting_stops_after_the_largest_page(unit: bytes, end: bytes) -> None:
    """Five megabytes of elements are no page, however they end."""
    body = b"[" + b",".join([unit] * (5_000_000 // len(unit))) + end
    with pytest.raises(MalformedError, match=r"200 entries of the largest page|2,000,000 brackets"):
        decode_page(body)


@pytest.mark.parametrize(("count", "is_page"), [(200, True), (201, False)])
@pytest.mark.parametrize("last", [b"null", b"nul"])
def test_a_page_has_at_most_200_entries(count: int, last: bytes, *, is_page: bool) -> None:
    """One more is malformed, whether the page is decoded as a whole or not."""
    body = b"[" + b"null," * (count - 1) + last + b"]"
    if is_page:
        assert len(decode_page(body)) == count
        return
    with pytest.raises(MalformedError, match="more than the 200 entries"):
        decode_page(body)


def test_splitting_takes_no_element_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The elements are counted as they are found, not in the end."""
    elements = split(b"[" + b"{}," * 100_000)
    assert list(itertools.islice(elements, decode.MOST_ROWS)) == [b"{}"] * decode.MOST_ROWS
    with pytest.raises(MalformedError):
        next(elements)
    monkeypatch.setattr(decode, "MOST_ROWS", 3)
    assert list(split(b"[1,2,3]")) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("depth", [decode.MOST_DEPTH - 1, decode.MOST_DEPTH])
def test_splitting_stops_at_a_depth(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is less deep costs one entry, and the others land."""
    monkeypatch.setattr(decode, "require_few_marks", lambda _: None)
    body = b"[" + b"[" * depth + b"]" * depth + b"," + page(entry(3))[1:]
    if depth < decode.MOST_DEPTH:
        first, second = (row for _, row in decode_page(body))
        assert first == Rejection(None, None, "entry is not an object")
        assert second.sequence == 3
        return
    with pytest.raises(MalformedError, match="nested more than 1,000,000 deep"):
        decode_page(body)


def test_what_is_too_much_to_be_split_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are counted before any is looked at. A page that needs no splitting has no limit."""
    junk = b"[" + b",".join([b"[]"] * (MOST_MARKS // 3 + 1)) + b"]"
    monkeypatch.setattr(decode, "_MARK", None)
    body = page(entry(1), entry(2, metadata="HERE")).replace(b'"HERE"', junk)
    assert [type(row) for _, row in decode_page(body)] == [Entry, Entry]
    with_new_field = body.replace(b'"state"', b'"tenant":1,"state"')
    assert [type(row) for _, row in decode_page(with_new_field)] == [Entry, Entry]
    for bad in (body.replace(b"[]", b"[nul]", 1), body.replace(b"Create", b"\xff", 1), junk[:-1]):
        with pytest.raises(MalformedError, match="2,000,000 brackets, commas and quotes"):
            decode_page(bad)


@pytest.mark.parametrize("end", [b"", b',"a":nul'])
def test_an_entry_of_too_many_fields_is_a_rejection(end: bytes) -> None:
    """Its neighbours land. Its names are not looked at one by one."""
    fields = b",".join(b'"%d":1' % n for n in range(decode.MOST_FIELDS + 1))
    body = b"[{" + fields + end + b"}," + page(entry(3))[1:]
    first, second = (row for _, row in decode_page(body))
    assert first == Rejection(None, None, "entry cannot be decoded")
    assert isinstance(second, Entry)


def test_a_string_that_never_ends_is_malformed_in_time() -> None:
    """A megabyte of escaped quotes is looked at once, not once for each quote."""
    with pytest.raises(MalformedError):
        decode_page(b'["' + b'\\"' * 500_000)
