"""Marked headers: every text is the mark, so that a leak is found wherever it is."""

from dicom_assets.emulator.archive import instance_key
from dicom_assets_tests.adversary.canary import mark, marked
from dicom_assets_tests.emulator.test_archive import header


def test_every_text_of_a_marked_header_is_the_mark() -> None:
    """Texts and names at every depth; UIDs, dates, numbers and nothing stay as they are."""
    item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00104000": {"vr": "LT", "Value": ["x"]}}
    kept = {
        **header(1),
        "00080020": {"vr": "DA", "Value": ["20260101"]},
        "00100040": {"vr": "CS"},
        "00200013": {"vr": "IS", "Value": [1]},
    }
    texts = {
        "00080060": {"vr": "CS", "Value": ["CT", None]},
        "00081115": {"vr": "SQ", "Value": [item, {}]},
        "00100010": {"vr": "PN", "Value": [{"Ideographic": "X"}, None]},
    }
    spoiled = marked({**kept, **texts}, "PHI-1")
    assert instance_key(spoiled) == instance_key(kept)
    assert list(spoiled) == sorted(spoiled)
    assert {tag: spoiled[tag] for tag in kept} == kept
    assert spoiled["00080060"]["Value"] == ["PHI-1", None]
    assert spoiled["00081115"]["Value"] == [
        {"00081150": item["00081150"], "00104000": {"vr": "LT", "Value": ["PHI-1"]}},
        {},
    ]
    assert spoiled["00100010"]["Value"] == [{"Ideographic": "PHI-1^Ideographic"}, None]
    # Attributes that a bare header lacks are there too.
    for tag in ("00100020", "00080050", "00081030", "0008103E", "00080090"):
        assert "PHI-1" in str(spoiled[tag])
    assert mark() != mark()
