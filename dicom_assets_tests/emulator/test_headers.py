"""Headers made of DICOM files: form, corrections, refusals, and every file that pydicom ships."""

from __future__ import annotations

import json
import random
import re
import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_assets.emulator.headers import (
    Reason,
    Refused,
    _parsed,
    _quiet,
    is_valid_attribute,
    parse_file,
)

SHIPPED: Final = sorted(
    file
    for file in (Path(pydicom.__file__).parent / "data").rglob("*")
    if file.is_file() and (file.suffix == ".dcm" or file.read_bytes()[128:132] == b"DICM")
)
BULK: Final = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
# PS3.5 6.2
KNOWN: Final = frozenset(
    "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SQ SS ST SV TM UC UI UL UR US UT UV".split()  # noqa: SIM905
)


def dataset_header(dataset: Dataset) -> dict[str, Any]:
    """The header of a dataset, without the checks of a store."""
    with _quiet():
        return _parsed(dataset).header


def minimal() -> Dataset:
    """The least that a service stores."""
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.SOPInstanceUID = "1.2.3.4"
    made.PatientID = "ID1"
    made.StudyInstanceUID = "1.2"
    made.SeriesInstanceUID = "1.2.3"
    return made


def written(made: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """The dataset as a DICOM file."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    content = BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


def outcome(file: Path) -> dict[str, Any] | Reason:
    """The header of a file, or the reason why a service refuses it."""
    try:
        return parse_file(file.read_bytes()).header
    except Refused as refusal:
        return refusal.reason


def walk(header: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every element of a header, at every depth."""
    found = []
    for tag, element in header.items():
        found.append((tag, element))
        if element["vr"] == "SQ":
            for item in element.get("Value", []):
                assert list(item) == sorted(item)
                found += walk(item)
    return found


def assert_form(element: dict[str, Any]) -> None:
    """An element of the JSON model, in the form that the service gives it."""
    assert element["vr"] in KNOWN
    assert set(element) <= {"vr", "Value"}
    for value in element.get("Value", ["x"]):
        match element["vr"]:
            case "PN":
                named = {"Alphabetic", "Ideographic", "Phonetic"}
                assert (
                    value is None or value == "x" or (set(value) <= named and all(value.values()))
                )
            case "SQ":
                assert isinstance(value, dict) or value == "x"
            case "AT":
                assert value == "x" or re.fullmatch("[0-9A-F]{8}", value)
            case "US" | "SS" | "UL" | "SL" | "UV" | "SV":
                assert isinstance(value, int) or value == "x"
            case "FL" | "FD":
                special = ("NaN", "Infinity", "-Infinity", "x")
                assert isinstance(value, float) or value in special
            case "IS" | "DS":
                assert isinstance(value, int | float | str | None)
            case _:
                assert isinstance(value, str | None)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_file_gives_a_header_or_a_reason(file: Path) -> None:
    """None breaks it, none leaks a warning, and every header has the service's form."""
    header = outcome(file)
    if isinstance(header, Reason):
        return
    assert list(header) == sorted(header)
    for tag, element in walk(header):
        assert re.fullmatch("[0-9A-F]{8}", tag)
        assert not tag.startswith("0002")
        assert not tag.endswith("0000")
        assert_form(element)
    assert not BULK & {element["vr"] for _, element in walk(header)}
    text = json.dumps(header, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode()) == header


def test_most_shipped_files_are_fit() -> None:
    """The refusals are the files that lack something, not the ones that are merely odd."""
    outcomes = {file.name: outcome(file) for file in SHIPPED}
    refused = {name: str(one) for name, one in outcomes.items() if isinstance(one, Reason)}
    assert len(outcomes) - len(refused) > 140
    assert refused["DICOMDIR"] == "no-sop-class-uid"
    assert refused["no_meta.dcm"] == "not-part-10"
    assert refused["ExplVR_BigEnd.dcm"] == "no-patient-id"
    assert refused["hotiron.dcm"] == "no-study-instance-uid"
    assert "badVR.dcm" not in refused


def test_nothing_of_a_file_is_warned_of_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What pydicom says about odd files quotes their values; it stays inside."""
    caplog.set_level(0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for file in SHIPPED:
            outcome(file)
    assert seen == []
    assert caplog.records == []


def test_a_known_file_has_the_known_header() -> None:
    """CT_small by hand: text, names, numbers, and neither pixels nor unknown private elements."""
    file = next(file for file in SHIPPED if file.name == "CT_small.dcm")
    header = parse_file(file.read_bytes()).header
    assert header["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert header["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "CompressedSamples^CT1"}]}
    assert header["00200013"] == {"vr": "IS", "Value": [1]}
    assert header["00280030"] == {"vr": "DS", "Value": [0.661468, 0.661468]}
    assert header["00280010"] == {"vr": "US", "Value": [128]}
    assert header["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]}
    assert header["00080050"] == {"vr": "SH"}
    assert "7FE00010" not in header


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian]
)
def test_the_transfer_syntax_does_not_show(syntax: UID) -> None:
    """Explicit, big-endian and implicit files of the same content have the same header."""
    made = minimal()
    made.PixelRepresentation = 1
    made.Rows = 40_000
    made.SmallestImagePixelValue = -2
    made.SliceThickness = "2.50"
    made.InstanceNumber = "12"
    made.PatientName = "Yamada^Tarou=山田^太郎"
    made.SpecificCharacterSet = "ISO_IR 192"
    item = Dataset()
    item.CodeValue = "T-1"
    made.AnatomicRegionSequence = Sequence([item])
    header = parse_file(written(made, syntax)).header
    assert header["00280010"] == {"vr": "US", "Value": [40000]}
    assert header["00280106"] == {"vr": "SS", "Value": [-2]}
    assert header["00180050"] == {"vr": "DS", "Value": [2.5]}
    assert header["00200013"] == {"vr": "IS", "Value": [12]}
    assert header["00082218"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]
    name = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}
    assert header["00100010"] == {"vr": "PN", "Value": [name]}


def test_a_dataset_in_memory_has_a_header_too() -> None:
    """No file is needed, nor what a service requires."""
    made = Dataset()
    made.StudyDate = "20200101"
    made.PatientName = ""
    made.ImageType = ["ORIGINAL", "", "AXIAL"]
    made.OtherPatientNames = ["A^B", "=山田"]
    made.ReferencedStudySequence = Sequence([])
    assert dataset_header(made) == {
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
        "00080020": {"vr": "DA", "Value": ["20200101"]},
        "00081110": {"vr": "SQ"},
        "00100010": {"vr": "PN"},
        "00101001": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}, {"Ideographic": "山田"}]},
    }


def test_a_single_has_the_digits_of_a_single() -> None:
    """FL 0.1 is 0.1, not 0.10000000149011612; the extremes keep their value."""
    made = Dataset()
    values = [0.1, 16777216.0, 1e-45, 3.4028234663852886e38, -0.0, 1 / 3]
    made.add_new(0x00720074, "FD", values)
    made.add_new(0x00720076, "FL", values)
    header = dataset_header(made)
    assert header["00720074"]["Value"] == values
    singles = header["00720076"]["Value"]
    assert singles[0] == 0.1
    assert [struct.pack("<f", value) for value in singles] == [
        struct.pack("<f", value) for value in values
    ]


@pytest.mark.parametrize(
    ("vr", "content", "values"),
    [
        ("IS", b" +12 \\-5 ", [12, -5]),
        ("DS", b"1\\2.5\\1e3\\.5 ", [1, 2.5, 1000.0, 0.5]),
        ("DS", b"1\\\\3 ", [1, None, 3]),
        ("DS", b"1\\NaN ", ["1", "NaN"]),
        ("DS", b"1_000 ", ["1_000"]),
        ("IS", b"1A", ["1A"]),
        ("IS", b"7\0", [7]),
    ],
)
def test_number_strings_are_numbers_or_text_as_a_whole(
    vr: str, content: bytes, values: list[Any]
) -> None:
    """One value that does not parse makes the element text; inside a sequence it stays."""
    item = struct.pack("<HH2sH", 0x0010, 0x1020, vr.encode(), len(content)) + content
    nested = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    whole = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, len(nested)) + nested
    file = written(minimal())
    at = file.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    header = parse_file(file[:at] + whole + file[at:]).header
    assert header["00081115"]["Value"][0]["00101020"] == {"vr": vr, "Value": values}


@pytest.mark.parametrize(
    ("tag", "vr", "content"),
    [
        (0x00080020, "DA", b"2020.01.01"),
        (0x00080020, "DA", b"NotADate"),
        (0x00080030, "TM", b"99:99 "),
        (0x00080060, "CS", b"lower "),
        (0x00080060, "CS", b"A" * 18),
        (0x00080050, "SH", b"x" * 18),
        (0x00101010, "AS", b"24"),
        (0x00080014, "UI", b"1.02.3"),
        (0x00081160, "IS", b"1A"),
        (0x00101020, "DS", b"tall"),
        (0x00080054, "AE", b"x" * 18),
    ],
)
def test_an_invalid_optional_attribute_is_dropped_whole(tag: int, vr: str, content: bytes) -> None:
    """The file is stored; the attribute is not in its header, and its tag is named."""
    name = f"{tag:08X}"
    made = minimal()
    file = written(made)
    element = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(content)) + content
    behind = 0x00100020 if tag < 0x00100020 else 0x0020000D
    at = file.index(struct.pack("<HH", behind >> 16, behind & 0xFFFF), 200)
    parsed = parse_file(file[:at] + element + file[at:])
    assert parsed.dropped == (name,)
    assert name not in parsed.header


def test_an_empty_patient_id_is_stored_and_left_out() -> None:
    """It must be there, may be empty, and is then no part of the header."""
    made = minimal()
    made.PatientID = ""
    parsed = parse_file(written(made))
    assert parsed.dropped == ("00100020",)
    assert "00100020" not in parsed.header


def test_null_padding_stays() -> None:
    """Nulls at the end of text are kept, those of UIDs and numbers are not."""
    made = minimal()
    made.StudyDescription = "odd"
    file = written(made).replace(b"odd ", b"odd\0")
    header = parse_file(file).header
    assert header["00081030"] == {"vr": "LO", "Value": ["odd\0"]}
    assert header["0020000D"] == {"vr": "UI", "Value": ["1.2"]}


def test_a_group_length_is_no_attribute() -> None:
    """(gggg,0000) stays out of the JSON model, and group 0002 is not the dataset's."""
    made = minimal()
    made.add_new(0x00080000, "UL", 100)
    header = dataset_header(made)
    assert list(header) == ["00080016", "00080018", "00100020", "0020000D", "0020000E"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"SOPClassUID": None}, "no-sop-class-uid"),
        ({"SOPClassUID": ""}, "no-sop-class-uid"),
        ({"StudyInstanceUID": None}, "no-study-instance-uid"),
        ({"SeriesInstanceUID": ""}, "no-series-instance-uid"),
        ({"SOPInstanceUID": None}, "no-sop-instance-uid"),
        ({"PatientID": None}, "no-patient-id"),
    ],
)
def test_what_is_missing_is_the_reason(changes: dict[str, str | None], reason: str) -> None:
    """The first attribute that lacks is named by a word."""
    made = minimal()
    for keyword, value in changes.items():
        delattr(made, keyword)
        if value is not None:
            setattr(made, keyword, value)
    with pytest.raises(Refused) as caught:
        parse_file(written(made))
    assert caught.value.reason == reason
    assert caught.value.code == 43264


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"1.2.3.4\0\x10\0", b"1.2.3.x\0\x10\0", "invalid-uid"),
        (b"1.2.3.4\0\x10\0", b"1.2\\3.4\0\x10\0", "no-sop-instance-uid"),
        (b"LO\x04\0ID1 ", b"LO\x04\0I\x01\x02 ", "invalid-patient-id"),
    ],
)
def test_what_is_malformed_is_the_reason(old: bytes, new: bytes, reason: str) -> None:
    """A UID that is none, and a patient ID that is no LO."""
    file = written(minimal())
    assert file.count(old) == 1
    with pytest.raises(Refused) as caught:
        parse_file(file.replace(old, new))
    assert caught.value.reason == reason


def test_a_file_of_another_study_is_refused() -> None:
    """When the request names a study."""
    file = written(minimal())
    assert parse_file(file, "1.2").header["0020000D"]["Value"] == ["1.2"]
    with pytest.raises(Refused, match=r"^other-study$") as caught:
        parse_file(file, "1.9")
    assert caught.value.sop == "1.2.3.4"
    assert caught.value.sop_class == "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(200), b"x" * 128 + b"DICM"])
def test_what_is_no_dicom_file_is_refused(content: bytes) -> None:
    """Empty, short, blank, and a bare preamble."""
    with pytest.raises(Refused):
        parse_file(content)


DAMAGES: Final = (
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\xdd\xe0",
    *(b"SQ", b"UN", b"IS", b"DS", b"AT", b"FD", b"PN", b"US", b"XX", b"OB", b"UI"),
)


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """The file with a few bytes of its first kilobytes overwritten, cut out or put in."""
    content = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(len(content), 6000))
        length = chance.choice((0, 2, 4))
        content[at : at + length] = chance.choice((*DAMAGES, chance.randbytes(3), b""))
    return bytes(content[: chance.choice((None, None, len(content) // 2))])


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_refused_or_stored_never_a_crash(seed: int) -> None:
    """Whatever is broken, a file gives a header that is JSON, or a reason without a value."""
    chance = random.Random(seed)
    small = [file.read_bytes() for file in SHIPPED if file.stat().st_size < 40_000]
    outcomes: set[str] = set()
    for _ in range(150):
        try:
            header = parse_file(damaged(chance, chance.choice(small))).header
        except Refused as refusal:
            outcomes.add(refusal.reason.value)
        else:
            outcomes.add("stored")
            assert json.loads(json.dumps(header, allow_nan=False)) == header
    assert {"stored", "no-study-instance-uid"} < outcomes


@pytest.mark.parametrize(
    ("tag", "attribute", "valid"),
    [
        ("00100010", {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}, True),
        ("00100010", {"vr": "PN", "Value": [{"Alphabetic": "x" * 65}]}, False),
        ("00100010", {"vr": "PN"}, True),
        ("00100010", {"vr": "PN", "Value": []}, True),
        ("00100010", {"vr": "LO", "Value": ["A^B"]}, False),
        ("00100030", {"vr": "DA", "Value": ["19700101"]}, True),
        ("00100030", {"vr": "DA", "Value": ["1970-01-01"]}, False),
        ("00100030", {"vr": "DA", "Value": [None]}, True),
        ("00100030", {"vr": "DA", "Value": "19700101"}, False),
        ("00100030", {"vr": "DA", "InlineBinary": "AAAA"}, False),
        ("00101020", {"vr": "DS", "Value": [1.75]}, True),
        ("00101020", {"vr": "DS", "Value": ["tall"]}, False),
        ("00100030", "19700101", False),
    ],
)
def test_an_attribute_in_json_is_checked_by_its_vr(
    tag: str, attribute: object, valid: bool
) -> None:
    """The VR must be the tag's, and every value must follow it."""
    assert is_valid_attribute(tag, attribute) is valid
