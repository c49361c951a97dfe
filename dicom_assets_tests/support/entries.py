"""Entries and headers of the form that was captured from the service, made for tests."""

import json
from typing import Any

Json = dict[str, Any]

STUDY, SERIES, SOP = "1.2.826.0.1.3680043.8.498.13", "1.2.826.0.1.3680043.8.498.77", "1.2.826.9"
TIMESTAMP = "2022-11-25T08:44:12.3524895+00:00"
TICKS = 16_693_658_523_524_895


def header(study: str = STUDY, series: str = SERIES, sop: str = SOP) -> Json:
    """Return a header as the service serves it."""
    return {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080008": {"vr": "CS", "Value": ["DERIVED", "SECONDARY", "OTHER"]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": [sop]},
        "00080020": {"vr": "DA", "Value": ["20200922"]},
        "00080023": {"vr": "DA"},
        "00080030": {"vr": "TM", "Value": ["120000"]},
        "00080050": {"vr": "SH"},
        "00080060": {"vr": "CS", "Value": ["OT"]},
        "00080090": {"vr": "PN", "Value": [{"Alphabetic": "Doctor Doc"}]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Anony Mous"}]},
        "00100020": {"vr": "LO", "Value": ["ID1"]},
        "00100030": {"vr": "DA"},
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [series]},
        "00200011": {"vr": "IS", "Value": [2]},
        "00200013": {"vr": "IS", "Value": [1]},
        "00280030": {"vr": "DS", "Value": [1.0, 1.0]},
    }


def header_with(**elements: object) -> Json:
    """Return a header with elements that are given as `t00100010=…`, in the place of its own."""
    given = {name.removeprefix("t"): value for name, value in elements.items()}
    return dict(sorted((header() | given).items()))


def entry(sequence: int = 1263, **fields: object) -> Json:
    """Return an entry as the service serves it; a field given as None is left out."""
    made: Json = {
        "sequence": sequence,
        "partitionName": "Microsoft.Default",
        "studyInstanceUid": STUDY,
        "seriesInstanceUid": SERIES,
        "sopInstanceUid": SOP,
        "action": "Create",
        "timestamp": TIMESTAMP,
        "state": "Current",
        "metadata": header(),
    }
    return {name: value for name, value in (made | fields).items() if value is not None}


def page(*entries: object) -> bytes:
    """Return the body of a page."""
    return json.dumps(entries, separators=(",", ":")).encode()
