"""One table of values, kept or left out as the service does it, and files stored with them.

Sources: DicomValidation.cs and DicomElement.cs of fo-dicom 5.1, and StoreDatasetValidator.cs,
UidValidation.cs, LongStringValidation.cs of microsoft/dicom-server.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicom_assets.emulator.headers import Reason, Refused, parse_file
from dicom_assets.emulator.validation import is_valid_text
from dicom_assets_tests.support.dicom_files import feed, sequences

if TYPE_CHECKING:
    import httpx

# The attributes that select a value of a VR may have any number of values.
TAGS: Final = {
    "AE": 0x0072005E, "AS": 0x0072005F, "CS": 0x00720062, "DA": 0x00720061, "DS": 0x00720072,
    "DT": 0x00720063, "IS": 0x00720064, "LO": 0x00720066, "LT": 0x00720068, "PN": 0x0072006A,
    "SH": 0x0072006C, "ST": 0x0072006E, "TM": 0x0072006B, "UC": 0x0072006F, "UI": 0x0072007F,
    "UR": 0x00720071, "UT": 0x00720070,
}  # fmt: skip

KEPT, OUT = True, False
VALUES: Final = [
    # ValidateAE: 16 characters, not spaces alone, no backslash, no control.
    ("AE", "STORE_SCP", KEPT), ("AE", "x" * 16, KEPT), ("AE", "x" * 17, OUT),
    ("AE", "A\tB", OUT), ("AE", "A\x1bB", OUT), ("AE", "A\\\\B", OUT), ("AE", "A\\ \\B", OUT),
    ("AE", "", KEPT), ("AE", "    ", KEPT), ("AE", " A", KEPT), ("AE", "A\n", OUT),
    # ValidateAS: three digits and a letter.
    ("AS", "024Y", KEPT), ("AS", "000D", KEPT), ("AS", "24Y", OUT), ("AS", "0024Y", OUT),
    ("AS", "024y", OUT), ("AS", "024", OUT), ("AS", " 24Y", OUT), ("AS", "024Y ", KEPT),
    ("AS", "024Y\\", KEPT), ("AS", "024Y \\024M", OUT),
    # ValidateCS: 16 characters, capitals, digits, underscore, space.
    ("CS", "ORIGINAL\\PRIMARY", KEPT), ("CS", "HEAD NECK_1", KEPT), ("CS", "x", OUT),
    ("CS", "A-B", OUT), ("CS", "A" * 16, KEPT), ("CS", "A" * 17, OUT), ("CS", "A\\\\B", KEPT),
    ("CS", "ÄÖ", OUT), ("CS", " A", KEPT), ("CS", "A.B", OUT),
    # ValidateDA: eight digits, month to 12, day to 31, zero allowed. Two as a range.
    ("DA", "20200131", KEPT), ("DA", "00000000", KEPT), ("DA", "20200000", KEPT),
    ("DA", "20200230", KEPT), ("DA", "20201301", OUT), ("DA", "20200132", OUT),
    ("DA", "2020.01.02", OUT), ("DA", "2020-01-02", OUT), ("DA", "0", OUT), ("DA", "202001", OUT),
    ("DA", "00010101", KEPT), ("DA", "20200101-20200131", KEPT), ("DA", "20200101-", KEPT),
    ("DA", "20200101-20200102-20200103", OUT), ("DA", "20200101\\20200102", KEPT),
    ("DA", " 20200101", OUT), ("DA", "20200101 \\20200102", KEPT), ("DA", "\\20200101", KEPT),
    # ValidateDS: 16 characters, whatever the spaces around, a decimal number.
    ("DS", "1.5", KEPT), ("DS", "+.5e-3", KEPT), ("DS", "1.", KEPT), ("DS", "  -0012", KEPT),
    ("DS", "1,5", OUT), ("DS", "1E5", KEPT), ("DS", "1e", OUT), ("DS", ".", OUT),
    ("DS", "0.12345678901234", KEPT), ("DS", "0.123456789012345", OUT), ("DS", "NaN", OUT),
    ("DS", "1\\2", KEPT), ("DS", "1\\\\2", OUT), ("DS", "1 \\ 2", KEPT), ("DS", "", KEPT),
    ("DS", "1 5", OUT), ("DS", "1_0", OUT), ("DS", "0x10", OUT), ("DS", "\t1", KEPT),
    # ValidateDT: from the year down, month and day above zero, an offset from -1200 to +1400.
    ("DT", "2020", KEPT), ("DT", "202001", KEPT), ("DT", "20200131235960.123456+1400", KEPT),
    ("DT", "20200131-1200", KEPT), ("DT", "2020013112", KEPT), ("DT", "202001311259", KEPT),
    ("DT", "20200131+1500", OUT), ("DT", "20200131-0000", OUT), ("DT", "20200131-0170", OUT),
    ("DT", "20200031", OUT), ("DT", "20200100", OUT), ("DT", "20201301", OUT), ("DT", "-", OUT),
    ("DT", "20200131235960.1234567", OUT), ("DT", "2020-01-31", OUT), ("DT", "2020013", OUT),
    ("DT", "20200101-20200131", KEPT), ("DT", "20200101-0500-20200131-0500", KEPT),
    ("DT", "2020013124", OUT), ("DT", "20200101+0530", KEPT), ("DT", "20200101+05:30", OUT),
    # ValidateIS: digits, however many, of a number of 32 bits.
    ("IS", "0000000526370", KEPT), ("IS", "3000000000", OUT), ("IS", "2147483647", KEPT),
    ("IS", "2147483648", OUT), ("IS", "-2147483648", KEPT), ("IS", "-2147483649", OUT),
    ("IS", "+12", KEPT), ("IS", "12.0", OUT), ("IS", "1A", OUT), ("IS", " 12 ", KEPT),
    ("IS", "1\\\\2", KEPT), ("IS", "1\\ \\2", OUT), ("IS", "1 2", OUT), ("IS", "\t1", OUT),
    ("IS", "0" * 5000 + "1", KEPT), ("IS", "99999999999", OUT),
    # ValidateLO, ValidateSH: 64 and 16 characters, no control but ESC.
    ("LO", "CT CHEST\r\nW/O", OUT), ("LO", "CT\tCHEST", OUT), ("LO", "a" * 64, KEPT),
    ("LO", "a" * 65, OUT), ("LO", "a\\" + "b" * 64, KEPT), ("LO", "\x1b", KEPT),
    ("LO", "\x7f", OUT), ("LO", "\x85", OUT), ("LO", "ü" * 64, KEPT),
    ("LO", "\U0001f600" * 33, OUT),
    ("LO", "a" * 64 + "  ", KEPT), ("LO", " " + "a" * 64, OUT), ("LO", "", KEPT),
    ("SH", "a" * 16, KEPT), ("SH", "a" * 17, OUT), ("SH", "a\nb", OUT), ("SH", "a\\b", KEPT),
    # ValidateLT, ValidateST: the length alone. The others have no rule.
    ("LT", "one\r\ntwo\tthree\\four", KEPT), ("LT", "x" * 10240, KEPT), ("LT", "x" * 10241, OUT),
    ("ST", "\x01\x02", KEPT), ("ST", "x" * 1024, KEPT), ("ST", "x" * 1025, OUT),
    ("UT", "\x01" + "x" * 20000, KEPT), ("UC", "\x01" * 90, KEPT), ("UR", "not a URL \\", KEPT),
    # ValidatePN: three groups of 64 characters and five components, no control but ESC.
    ("PN", "A^B^C^D^E", KEPT), ("PN", "A^B^C^D^E^F", OUT), ("PN", "^^^^", KEPT),
    ("PN", "^^^^^", OUT), ("PN", "A=B=C", KEPT), ("PN", "A=B=C=D", OUT), ("PN", "A=B=", KEPT),
    ("PN", "x" * 64 + "=" + "y" * 64, KEPT), ("PN", "x" * 65, OUT), ("PN", "A=" + "x" * 65, OUT),
    ("PN", "A\r\nB", OUT), ("PN", "A=^^^^^", OUT), ("PN", "A^B\\C^D", KEPT), ("PN", "A\x1bB", KEPT),
    ("PN", "DOE^JANE ", KEPT), ("PN", "A^B\\A^B^C^D^E^F", OUT),
    # ValidateTM: from the hour down. Two as a range.
    ("TM", "12", KEPT), ("TM", "1259", KEPT), ("TM", "235960.123456", KEPT), ("TM", "24", OUT),
    ("TM", "1260", OUT), ("TM", "125961", OUT), ("TM", "12:59", OUT), ("TM", "1", OUT),
    ("TM", "125900.", OUT), ("TM", "125900.1234567", OUT), ("TM", "12-13", KEPT),
    ("TM", "12-13-14", OUT), ("TM", "12\\13", KEPT), ("TM", "12 ", KEPT), ("TM", " 12", OUT),
    # ValidateUI: no zero in front of a component, none empty, spaces at the end.
    ("UI", "1.2.840", KEPT), ("UI", "1.02", OUT), ("UI", "0.1", OUT), ("UI", "1.0.1", KEPT),
    ("UI", "1..2", OUT), ("UI", ".1", OUT), ("UI", "1.", OUT), ("UI", "1.2 ", KEPT),
    ("UI", "1.2\0", KEPT), ("UI", "1.2a", OUT), ("UI", "1." + "2" * 62, KEPT), ("UI", "2.01", OUT),
    ("UI", "1." + "2" * 63, OUT), ("UI", "1." + "2" * 62 + "  ", KEPT), ("UI", "1.2\\1.3", KEPT),
    ("UI", "1.2\0 ", OUT),
    # ValidateWithoutNullPadding: of VRs that are strings, and there as one value.
    ("LO", "odd\0", KEPT), ("CS", "X\0\0\0", KEPT), ("CS", "\0", KEPT), ("SH", "a\0b", OUT),
    ("DA", "20200101\0", OUT), ("IS", "7\0", OUT), ("DS", "1\0", OUT), ("TM", "12\0", OUT),
    ("LO", "a\\b\0", OUT), ("CS", "A\\B\0", OUT), ("PN", "A^B\0", KEPT),
    ("LO", "x" * 64 + "\0\0", KEPT),
]  # fmt: skip

COUNTS: Final = [
    (0x00080060, "CS", "CT\\MR", OUT),  # Modality has one value
    (0x00080008, "CS", "A\\B\\C\\D", KEPT),  # ImageType has two and more
    (0x00080008, "CS", "A", OUT),
    (0x00200037, "DS", "1\\0\\0\\0\\1\\0", KEPT),
    (0x00200037, "DS", "1\\0\\0", OUT),
    (0x00200037, "DS", "", KEPT),
    (0x00091001, "CS", "A\\B\\C", KEPT),  # private
    (0x00080060, "CS", "CT\0", KEPT),
]


@pytest.mark.parametrize(("vr", "value", "kept"), VALUES)
def test_a_value_is_kept_as_the_service_does(vr: str, value: str, kept: bool) -> None:
    """By the rules alone."""
    assert is_valid_text(TAGS[vr], vr, value) is kept


@pytest.mark.parametrize(("tag", "vr", "value", "kept"), COUNTS)
def test_values_are_counted(tag: int, vr: str, value: str, kept: bool) -> None:
    """ValidateVM of DicomElement.cs."""
    assert is_valid_text(tag, vr, value) is kept


LONG: Final = {"OB", "OW", "SQ", "UC", "UN", "UR", "UT"}
CLASS: Final = b"1.2.840.10008.5.1.4.1.1.7\0"


def element(tag: int, vr: str, value: bytes) -> bytes:
    """An element in Explicit VR Little Endian, padded to even length by a space or a null."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    length = struct.pack("<HI", 0, len(value)) if vr in LONG else struct.pack("<H", len(value))
    return head + length + value


def dataset(**changes: tuple[str, bytes] | None) -> bytes:
    """The least that is stored, with elements by their tag (`t00100020`) replaced or taken out."""
    elements: dict[str, tuple[str, bytes] | None] = {
        "t00080005": ("CS", b"ISO_IR 192"),
        "t00080016": ("UI", CLASS),
        "t00080018": ("UI", b"1.2.1.1.1"),
        "t00080060": ("CS", b"OT"),
        "t00100020": ("LO", b"ID1"),
        "t0020000D": ("UI", b"1.2.1"),
        "t0020000E": ("UI", b"1.2.1.1"),
        **changes,
    }
    given = sorted((int(name[1:], 16), value) for name, value in elements.items() if value)
    return b"".join(element(tag, *value) for tag, value in given)


META: Final = element(0x00020010, "UI", b"1.2.840.10008.1.2.1")


def file(content: bytes) -> bytes:
    """The dataset as a file."""
    return bytes(128) + b"DICM" + META + content


# Text as UTF-8, the others as they stand.
STORED: Final = [row for row in VALUES if len(row[1]) < 60_000 and row[1].strip("\0 ")]


@pytest.mark.parametrize(("vr", "value", "kept"), STORED)
def test_a_file_loses_the_attribute_or_not(vr: str, value: str, kept: bool) -> None:
    """The same table through a file: the tag is in the header, or among those left out."""
    tag = f"{TAGS[vr]:08X}"
    parsed = parse_file(file(dataset(**{f"t{tag}": (vr, value.encode())})))
    assert (tag in parsed.header) is kept
    assert parsed.dropped == (() if kept else (tag,))


@pytest.mark.parametrize(
    ("tag", "vr", "value", "kept"),
    [
        (0x00280010, "US", b"\x01\0", KEPT),
        (0x00280010, "US", b"\x01\0\x02\0", OUT),
        (0x00280009, "AT", b"\x18\0\x63\x10", KEPT),
        (0x00281101, "US", b"\0\1\0\0\x10\0", KEPT),
        (0x00281101, "US", b"\0\1\0\0", OUT),
        (0x00189087, "FD", bytes(16), OUT),
    ],
)
def test_binary_values_are_counted(tag: int, vr: str, value: bytes, kept: bool) -> None:
    """Their number is that of the bytes."""
    parsed = parse_file(file(dataset(**{f"t{tag:08X}": (vr, value)})))
    assert (f"{tag:08X}" in parsed.header) is kept


PREAMBLES: Final = {
    "whole": bytes(128) + b"DICM" + META,
    "no preamble": META,
    "no preamble, no meta information": b"",
    "no meta information": bytes(128) + b"DICM",
}


@pytest.mark.parametrize("head", PREAMBLES.values(), ids=PREAMBLES)
def test_a_preamble_may_be_missing(head: bytes) -> None:
    """As in Preprocess of DicomFileReader.cs: the first group tells."""
    content = head + dataset(t00204000=("LT", b"a comment"))
    assert parse_file(content).header["00204000"]["Value"] == ["a comment"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        META,
        META + dataset()[: 131 - len(META)],
        b"x" * 200,
        b"GIF89a" * 40,
        b"x" * 128 + b"DICM",
    ],
    ids=["empty", "meta alone", "131 bytes", "text", "image", "bare preamble"],
)
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    """Less than 132 bytes, or a first group beyond 00FF."""
    with pytest.raises(Refused) as caught:
        parse_file(content)
    assert caught.value.reason is Reason.NOT_PART_10


def test_a_file_is_read_up_to_the_element_in_which_it_ends() -> None:
    """fo-dicom stops there without an error; the attribute is absent, and nothing is warned of."""
    comment, pixels = ("LT", b"a long comment"), ("OW", bytes(1000))
    whole = file(dataset(t00204000=comment, t7FE00010=pixels))
    for cut in (1, 500, 1000, 1004, 1011):
        parsed = parse_file(whole[:-cut])
        assert parsed.dropped == ()
        assert parsed.header["00204000"]["Value"] == ["a long comment"]
    for cut in (1012, 1020, 1026, 1030):
        parsed = parse_file(whole[:-cut])
        assert ("00204000" in parsed.header, parsed.dropped) == (cut == 1012, ())


def delimited(tag: int, content: bytes = b"", *, is_closed: bool = True) -> bytes:
    """An item or a delimiter: its length is known, or a delimiter of its own ends the content."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if is_closed:
        return head + struct.pack("<I", len(content)) + content
    return head + UNDEFINED + content + delimited(0xFFFEE00D)


def undefined(tag: int, vr: str, items: bytes) -> bytes:
    """An element of undefined length."""
    head = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), 0)
    return head + UNDEFINED + items + delimited(0xFFFEE0DD)


UNDEFINED: Final = b"\xff" * 4
ITEM: Final = 0xFFFEE000
STAYING: Final = [
    # Bytes cut of two items of 18 bytes, which the sequence ends with, and what is left in each.
    *((True, cut, [{"1"}, {"2"}]) for cut in (0,)),
    *((True, cut, [{"1"}]) for cut in (1, 8, 12, 17, 18)),
    *((True, cut, []) for cut in (19, 30, 36)),
    # The delimiters of the sequence and of the item are 8 bytes each.
    *((False, cut, [{"1"}, {"2"}]) for cut in (0, 1, 8, 9, 16)),
    *((False, cut, [{"1"}, set()]) for cut in (17, 20, 25, 26)),
    *((False, cut, [{"1"}]) for cut in (27, 30, 34, 35, 42)),
    *((False, cut, [set()]) for cut in (43, 52)),
    *((False, cut, []) for cut in (53,)),
]


@pytest.mark.parametrize("is_nested", [False, True], ids=["outer", "nested"])
@pytest.mark.parametrize(("is_closed", "cut", "staying"), STAYING)
def test_of_a_sequence_the_items_before_the_end_stay(
    is_closed: bool, cut: int, staying: list[set[str]], is_nested: bool
) -> None:
    """fo-dicom takes an item of known length if it is whole, others as far as they go."""
    values = [element(0x00081150, "UI", value) for value in (b"1", b"2")]
    items = b"".join(delimited(ITEM, value, is_closed=is_closed) for value in values)
    whole = element(0x30060080, "SQ", items) if is_closed else undefined(0x30060080, "SQ", items)
    if is_nested:
        whole = undefined(0x30060010, "SQ", delimited(ITEM, whole, is_closed=False))[:-16]
    content = file(dataset(t00204000=("LT", b"a comment")) + whole)
    parsed = parse_file(content[: len(content) - cut])
    outer = parsed.header["30060010"]["Value"][0] if is_nested else parsed.header
    found = outer["30060080"].get("Value", [])
    assert [{one["00081150"]["Value"][0]} if one else set() for one in found] == staying
    assert parsed.header["00204000"]["Value"] == ["a comment"]
    assert parsed.dropped == ()


@pytest.mark.parametrize(
    ("is_deflated", "cut", "left"), [(False, 0, 2), (False, 1, 1), (True, 0, 2)]
)
def test_a_sequence_of_megabytes_is_no_exception(is_deflated: bool, cut: int, left: int) -> None:
    """It is not read before it is wanted, and a deflated file is shorter than what it holds."""
    long = element(0x0040A160, "UT", b"x" * 2**21)
    items = delimited(ITEM, element(0x00081150, "UI", b"1")) + delimited(ITEM, long)
    content = dataset() + element(0x30060080, "SQ", items)
    content = content[: len(content) - cut]
    syntax = element(0x00020010, "UI", b"1.2.840.10008.1.2.1.99")
    packed = bytes(128) + b"DICM" + syntax + zlib.compress(content, wbits=-zlib.MAX_WBITS)
    parsed = parse_file(packed if is_deflated else file(content))
    assert len(parsed.header["30060080"]["Value"]) == left
    assert parsed.dropped == ()


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 60, 108, 109, 115, 116, 120, 124])
def test_a_file_may_end_in_its_compressed_pixels(cut: int) -> None:
    """Inside a fragment, inside its head, and before the delimiter that ends them."""
    content = dataset(t00204000=("LT", b"a comment"))
    fragments = delimited(ITEM) + delimited(ITEM, bytes(100))
    whole = file(content + undefined(0x7FE00010, "OB", fragments))
    assert parse_file(whole[: len(whole) - cut]) == parse_file(file(content))


def test_pixels_that_are_no_fragments_are_refused() -> None:
    """fo-dicom fails on another tag among them; a file without an end is one that was cut."""
    damaged = undefined(0x7FE00010, "OB", delimited(ITEM) + bytes(100))[:-8]
    with pytest.raises(Refused) as caught:
        parse_file(file(dataset() + damaged))
    assert caught.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize("cut", [1, 6, 14])
def test_a_file_that_ends_in_a_required_attribute_is_refused(cut: int) -> None:
    """A UID of which a part is there is no UID."""
    with pytest.raises(Refused) as caught:
        parse_file(file(dataset())[:-cut])
    assert caught.value.reason is Reason.NO_SERIES


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"t00100020": ("LO", b"")}, ("00100020",)),
        ({"t00100020": ("LO", b"    ")}, ("00100020",)),
        ({"t00100020": ("LO", b"a\\b")}, ("00100020",)),
        ({"t00100020": ("LO", b"x" * 64)}, ()),
        ({"t00100020": ("LO", b"ID\0\0")}, ()),
        ({"t00100020": ("LO", b"x" * 65)}, Reason.INVALID_PATIENT_ID),
        ({"t00100020": ("LO", b"a\tb")}, Reason.INVALID_PATIENT_ID),
        ({"t00100020": ("SH", b"ID1")}, Reason.INVALID_PATIENT_ID),
        ({"t00100020": None}, Reason.NO_PATIENT_ID),
        ({"t0020000D": ("UI", b"1.02.1")}, ()),
        ({"t0020000D": ("UI", b"1.2.1 ")}, ()),
        ({"t0020000D": ("UI", b"1.2.x")}, Reason.INVALID_UID),
        ({"t0020000D": ("UI", b"1.2.")}, Reason.INVALID_UID),
        ({"t0020000D": ("UI", b"1." + b"2" * 63)}, Reason.INVALID_UID),
        ({"t0020000D": ("UI", b"1.2\\1.3")}, Reason.NO_STUDY),
        ({"t0020000D": ("LO", b"1.2.1")}, Reason.NO_STUDY),
        ({"t00080016": ("UI", b"1.2.00")}, ("00080016",)),
        ({"t00080016": ("UI", b"")}, Reason.NO_SOP_CLASS),
    ],
)
def test_required_attributes_have_rules_of_their_own(
    changes: dict[str, Any], outcome: tuple[str, ...] | Reason
) -> None:
    """ElementMinimumValidator refuses, the rules of fo-dicom leave out all but the three UIDs."""
    content = file(dataset(**changes))
    if isinstance(outcome, Reason):
        with pytest.raises(Refused) as caught:
            parse_file(content)
        assert caught.value.reason is outcome
    else:
        assert parse_file(content).dropped == outcome


def store(client: httpx.Client, content: bytes) -> httpx.Response:
    """The answer to a file as a body of one part."""
    kind = {"content-type": "application/dicom"}
    return client.post("/v2/studies", content=content, headers=kind)


def test_a_padded_uid_is_kept_and_is_the_uid(client: httpx.Client) -> None:
    """The feed and the header show the space; paths, searches and further stores do without."""
    padded = {"t0020000D": ("UI", b"1.2.1 "), "t0020000E": ("UI", b"1.2.11")}
    assert store(client, file(dataset(**padded))).status_code == 200
    assert store(client, file(dataset(t0020000E=("UI", b"1.2.11")))).status_code == 409
    (entry,) = feed(client)
    assert (entry["studyInstanceUid"], entry["seriesInstanceUid"]) == ("1.2.1 ", "1.2.11")
    assert entry["metadata"]["0020000D"] == {"vr": "UI", "Value": ["1.2.1 "]}
    assert client.get("/v2/studies/1.2.1/metadata").json() == [entry["metadata"]]
    found = client.get("/v2/studies", params={"StudyInstanceUID": "1.2.1"}).json()
    assert [one["0020000D"]["Value"] for one in found] == [["1.2.1 "]]
    assert len(client.get("/v2/studies/1.2.1/instances").json()) == 1
    assert client.delete("/v2/studies/1.2.1/series/1.2.11").status_code == 204
    assert sequences(client) == [1, 2]


def test_a_sop_class_that_is_left_out_is_not_answered(client: httpx.Client) -> None:
    """The instance is stored, with a warning."""
    answer = store(client, file(dataset(t00080016=("UI", b"1.2.00"))))
    assert answer.status_code == 202
    assert "00081150" not in answer.json()["00081199"]["Value"][0]
