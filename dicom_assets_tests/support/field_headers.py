r"""Headers that people met in the field, as small as they get, and the right values of each.

Each case is one study of its own. Elements are given as `t00100010=…`, in the place of those of a
plain header. `spoil` changes the entry as the service serves it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from dicom_assets.feed.rows import RowReader
from dicom_assets.schema import INSTANCE, SERIES, STUDY, Table
from dicom_assets.tables.catalogue import TABLES, catalogue
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import Window
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.entries import Json, entry
from dicom_assets_tests.support.feed_service import HOUR, Running, Service, stamp
from dicom_assets_tests.support.feeds import feed_of

ROOT: Final = "1.2.826.0.1.78"
LANDED: Final = {"patientname": "DOE^JANE", "patientid": "P1", "modality": "CT", "sequence": None}


@dataclass(frozen=True)
class Case:
    """A header, the right values in `instance` and `study`, and `column: reason` of failures."""

    name: str
    elements: Json
    instance: Json = field(default_factory=dict)
    study: Json = field(default_factory=dict)
    unparsable: tuple[str, ...] = ()
    spoil: Callable[[Json], Json] = lambda entry: entry

    def entry(self, number: int, timestamp: str) -> Json:
        """Return the entry of its instance, with the number as its sequence."""
        study, series, sop = uids(number)
        header = {
            "00080005": of("CS", "ISO_IR 192"),
            "00080016": of("UI", "1.2.840.10008.5.1.4.1.1.2"),
            "00080018": of("UI", sop),
            "00080020": of("DA", "20240102"),
            "00080030": of("TM", "101500"),
            "00080060": of("CS", "CT"),
            "00100010": of("PN", {"Alphabetic": "DOE^JANE"}),
            "00100020": of("LO", "P1"),
            "0020000D": of("UI", study),
            "0020000E": of("UI", series),
            "00200013": of("IS", 1),
            **{tag.removeprefix("t"): element for tag, element in self.elements.items()},
        }
        made = entry(
            number,
            studyInstanceUid=study,
            seriesInstanceUid=series,
            sopInstanceUid=sop,
            timestamp=timestamp,
            metadata=dict(sorted(header.items())),
        )
        return self.spoil(made)


def uids(number: int) -> tuple[str, str, str]:
    """Return the UIDs of study, series and SOP instance of a case."""
    return f"{ROOT}.{number}", f"{ROOT}.{number}.1", f"{ROOT}.{number}.1.1"


def of(vr: str, *values: object) -> dict[str, Any]:
    """Return an element."""
    return {"vr": vr, "Value": list(values)}


def nested(depth: int) -> Json:
    """Return a sequence in sequences, so many of them."""
    element = of("SH", "DEEP")
    for level in range(depth):
        element = of("SQ", {"0040A730" if level else "00080100": element})
    return element


def moment(*parts: int) -> datetime:
    """Return a moment in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # the parts of a moment


CASES: Final = (
    Case("good_neighbour", {}, {"patientname": "DOE^JANE"}, {"patientName": "DOE^JANE"}),
    # Names.
    Case(
        "pn_ideographic_only",
        {"t00100010": of("PN", {"Ideographic": "山田^太郎"})},
        {
            "patientname": "山田^太郎",
            "patientname_ideographic": "山田^太郎",
            "patientname_phonetic": None,
        },
        {"patientName": "山田^太郎"},
    ),
    Case(
        "pn_all_groups_in_alphabetic",
        {"t00100010": of("PN", {"Alphabetic": "Yamada^Taro=山田^太郎=やまだ^たろう"})},
        {
            "patientname": "Yamada^Taro",
            "patientname_ideographic": "山田^太郎",
            "patientname_phonetic": "やまだ^たろう",
        },
        {"patientName": "Yamada^Taro"},
    ),
    Case(
        "pn_all_groups_in_plain_text",
        {
            "t00100010": of("PN", "Yamada^Taro^^=山田^太郎"),
            "t00081070": of("PN", "A^^^", {"Alphabetic": "B=山"}),
        },
        {
            "patientname": "Yamada^Taro",
            "patientname_ideographic": "山田^太郎",
            "operatorsname": "A\\B",
            "operatorsname_ideographic": "\\山",
        },
    ),
    Case(
        "pn_of_empty_components",
        {"t00100010": of("PN", {"Alphabetic": "^^^^"})},
        {"patientname": None},
        {"patientName": None},
    ),
    Case(
        "pn_with_padding_and_empty_components",
        {"t00100010": of("PN", {"Alphabetic": "DOE^JANE^ ^^ "}), "t00080090": of("PN", "^ ^")},
        {"patientname": "DOE^JANE", "referringphysicianname": None},
    ),
    # Nothing.
    Case(
        "empty_strings_for_empty",
        {
            "t00180050": of("DS", ""),
            "t00100030": of("DA", ""),
            "t00080090": of("PN", ""),
            "t00280008": of("IS", ""),
        },
        {
            "slicethickness": None,
            "patientbirthdate": None,
            "patientbirthdate_formatted": None,
            "referringphysicianname": None,
            "numberofframes": None,
        },
    ),
    Case(
        "empty_items",
        {"t00081032": of("SQ", {}), "t00082218": of("SQ")},
        {"procedure_code": None, "anatomic_region_code": None},
    ),
    Case(
        "bulk_uri_for_text",
        {"t00081030": {"vr": "LO", "BulkDataURI": "http://127.0.0.1/bulk/1"}},
        {"studydescription": None},
    ),
    # Dates and times.
    Case(
        "date_and_time_zero",
        {"t00080020": of("DA", "0"), "t00080030": of("TM", "0")},
        {"studydate": "0", "studydate_formatted": None, "studytime": "0", "study_timestamp": None},
        {"studyDate": None, "studyTime": "0"},
        ("studydate_formatted: not a date", "study_timestamp: not a date"),
    ),
    Case(
        "date_00000000",
        {"t00080020": of("DA", "00000000"), "t00100030": of("DA", "00000000")},
        {"studydate": "00000000", "studydate_formatted": None, "patientbirthdate": "00000000"},
        {"studyDate": None, "patientBirthDate": None, "patientAgeYears": None},
        (
            "studydate_formatted: no such day",
            "patientbirthdate_formatted: no such day",
            "study_timestamp: no such day",
            "patientage_years: no such day",
        ),
    ),
    Case(
        "date_with_dots_and_dashes",
        {"t00080020": of("DA", "2020.01.02"), "t00100030": of("DA", "2020-01-02")},
        {
            "studydate": "2020.01.02",
            "studydate_formatted": date(2020, 1, 2),
            "patientbirthdate": "2020-01-02",
            "patientbirthdate_formatted": None,
        },
        {"studyDate": date(2020, 1, 2), "patientBirthDate": None},
        ("patientbirthdate_formatted: not a date", "patientage_years: not a date"),
    ),
    Case(
        "birth_date_of_year_one",
        {"t00100030": of("DA", "00010101")},
        {
            "patientbirthdate": "00010101",
            "patientbirthdate_formatted": None,
            "patientage_years": None,
        },
        {"patientBirthDate": None, "patientAgeYears": None},
        (
            "patientbirthdate_formatted: before 1582-10-15",
            "patientage_years: before 1582-10-15",
        ),
    ),
    Case(
        "study_moment_before_1900",
        {
            "t00080020": of("DA", "18991231"),
            "t00080030": of("TM", "233000"),
            "t00080201": of("SH", "+0000"),
        },
        {"studydate_formatted": date(1899, 12, 31), "study_timestamp": None},
        {"studyDate": date(1899, 12, 31), "studyTimestamp": None, "studyTime": "233000"},
        ("study_timestamp: before 1900",),
    ),
    Case(
        "acquisition_before_1900_by_its_offset",
        {
            "t0008002A": of("DT", "19000101003000+0100"),
            "t00080023": of("DA", "15821014"),
            "t00080033": of("TM", "00"),
        },
        {"acquisition_timestamp": None, "content_timestamp": None},
        {"firstAcquisitionTimestamp": None, "acquisitionDurationSeconds": None},
        ("acquisition_timestamp: before 1900", "content_timestamp: before 1582-10-15"),
    ),
    Case(
        "future_placeholder",
        {
            "t00080020": of("DA", "99991231"),
            "t00080030": of("TM", "235959"),
            "t00080201": of("SH", "+0000"),
        },
        {
            "studydate_formatted": date(9999, 12, 31),
            "study_timestamp": moment(9999, 12, 31, 23, 59, 59),
        },
        {"studyDate": date(9999, 12, 31)},
    ),
    Case(
        "zone_with_colon",
        {"t00080201": of("SH", "+05:30")},
        {"timezoneoffsetfromutc": "+05:30", "study_timestamp": None},
        {"studyTimestamp": None},
        ("study_timestamp: not an offset from UTC",),
    ),
    Case(
        "zone_half_hour",
        {"t00080201": of("SH", "+0530")},
        {"study_timestamp": moment(2024, 1, 2, 4, 45)},
        {"studyTimestamp": moment(2024, 1, 2, 4, 45)},
    ),
    Case(
        "age_forms",
        {"t00101010": of("AS", "45Y"), "t00100030": of("DA", "19790102")},
        {"patientage": "45Y", "patientage_years": 16_436 / 365.2425},
        {"patientAge": "45Y", "patientBirthDate": date(1979, 1, 2)},
    ),
    # Numbers.
    Case(
        "is_with_fraction",
        {
            "t00200013": of("IS", "1.0"),
            "t00200012": of("IS", 1.5),
            "t00280008": of("IS", "12.0"),
            "t00200011": of("IS", 3.0),
        },
        {
            "instancenumber": "1.0",
            "acquisitionnumber": None,
            "numberofframes": 12,
            "seriesnumber": "3",
        },
        {"frameCount": 12},
        ("acquisitionnumber: not a whole number",),
    ),
    Case(
        "several_values_in_one_text",
        {"t00280030": of("DS", "0.5\\0.7"), "t00080008": of("CS", "ORIGINAL\\PRIMARY")},
        {
            "pixelspacing_row": 0.5,
            "pixelspacing_column": 0.7,
            "imagetype": "ORIGINAL\\PRIMARY",
            "imagetype_1": "PRIMARY",
        },
    ),
    Case(
        "several_values_in_vm1",
        {
            "t00080060": of("CS", "PT", "CT"),
            "t00200011": of("IS", 3, 4),
            "t00080050": of("SH", "A1", "A2"),
        },
        {"modality": "PT\\CT", "seriesnumber": "3\\4", "accessionnumber": "A1\\A2"},
        {"modalitiesInStudy": "CT\\PT", "accessionNumber": "A1\\A2"},
    ),
    Case(
        "big_exponent",
        {"t00180050": of("DS", "1E-3"), "t00281053": of("DS", 1e300)},
        {"slicethickness": 0.001},
    ),
    # Forms of JSON.
    Case(
        "vr_missing",
        {"t00081030": {"Value": ["NO VR"]}, "t00280010": {"Value": [7]}},
        {"studydescription": "NO VR", "rows": 7},
        {"studyDescription": "NO VR"},
    ),
    # The service serves no UN and no InlineBinary. It is no value, as bulk data is none.
    Case(
        "vr_un_inline",
        {
            "t0008103E": {"vr": "UN", "InlineBinary": "VEVYVA=="},
            "t00081030": of("UN", "TEXT IN UN"),
        },
        {"studydescription": "TEXT IN UN", "seriesdescription": None},
    ),
    Case(
        "file_meta_in_header",
        {"t00020010": of("UI", "1.2.840.10008.1.2.1"), "t00080000": of("UL", 100)},
        LANDED,
    ),
    Case("nested_20", {"t0040A730": nested(20)}, LANDED),
    Case(
        "private_two_blocks",
        {
            "t00290010": of("LO", "SIEMENS CSA HEADER"),
            "t00290011": of("LO", "SIEMENS MEDCOM HEADER "),
            "t00291131": of("LO", "4.0.701169169"),
        },
        {"medcom": "4.0.701169169"},
    ),
    # Texts.
    Case(
        "html_and_quotes",
        {"t00081030": of("LO", '<b>O\'Brien & "Co" + 5µm</b>')},
        {"studydescription": '<b>O\'Brien & "Co" + 5µm</b>'},
        {"studyDescription": '<b>O\'Brien & "Co" + 5µm</b>'},
    ),
    Case(
        "crlf_in_description",
        {"t00081030": of("LO", "CT CHEST\r\nW/O\t")},
        {"studydescription": "CT CHEST\r\nW/O\t"},
    ),
    Case(
        "code_of_urn",
        {
            "t00081032": of(
                "SQ", {"00080120": of("UR", "urn:oid:1.2.3"), "00080104": of("LO", "CHEST")}
            )
        },
        {"procedure_code": "urn:oid:1.2.3", "procedure_code_meaning": "CHEST"},
        {"procedureCode": "urn:oid:1.2.3"},
    ),
)
COLUMNS: Final = """
packs = ["names"]

[[columns]]
path = '(0029,"SIEMENS MEDCOM HEADER",31)'
name = "medcom"

[[columns]]
path = "ImageType[1]"
"""
"""The file of columns that the cases need beside ours."""


class Filled(NamedTuple):
    """The tables after one run over cases, and what did not parse."""

    store: Store
    unparsable: Counter[str]

    def row(self, table: Table, number: int) -> Json:
        """Return the one row that a table has of a case."""
        snapshot = self.store.open(table)
        [row] = snapshot.rows_of(snapshot.table.study_column, [uids(number)[0]]).to_pylist()
        return dict(row)


def fill(root: Path, cases: Sequence[Case]) -> Filled:
    """Serve cases in one hour of a feed, follow it into tables below a folder, and return these."""
    (root / "columns.toml").write_text(COLUMNS, encoding="utf-8")
    urls = {table.name: str(root / table.name) for table in TABLES}
    store = steps.store_of(urls, tables=catalogue(TABLES, str(root / "columns.toml")))
    service, window, run = Service(), Window(HOUR, HOUR + 1000), Run("field", datetime.now(UTC))
    service.add(*(case.entry(n, stamp(HOUR + n)) for n, case in enumerate(cases, 1)))
    reader = RowReader(store.tables[INSTANCE.name])
    with Running(service) as running, feed_of(running.url, reader=reader) as feed:
        steps.add_entries(store, window, feed, run)
        outcome = steps.follow_log(store, window, feed, run)
    for table in (SERIES, STUDY):
        steps.derive(store, table, window, run)
    return Filled(store, outcome.unparsable)
