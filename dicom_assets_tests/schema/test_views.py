"""Views under DICOM's keywords: which column has which name, and how each dialect writes it."""

import re

import pytest

from dicom_assets.schema import INSTANCE, SERIES, STUDY, Table, added, views
from dicom_assets.schema.attributes import attribute_of
from dicom_assets.tables.catalogue import TABLES

SPECIFIC = """
packs = [PACKS]

[[columns]]
path = "ImageComments"
name = "remarks"

[[columns]]
path = "SeriesNumber"
name = "series_order"
type = "int32"

[[columns]]
path = "StudyDate"
name = "studydate_raw"

[[columns]]
path = "RequestAttributesSequence[0].RequestedProcedureID"
name = "protocolid"
level = "study"

[[columns]]
path = "AcquisitionMatrix"
aggregate = "distinct"
level = "series"

[[columns]]
path = '(0019,"ACME",10)'
vr = "LO"
name = "acme_mode"
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of columns with every pack, and columns that get in each other's way."""
    path = tmp_path_factory.mktemp("own") / "columns.toml"
    packs = ", ".join(f'"{name}"' for name in added.packs())
    path.write_text(SPECIFIC.replace("PACKS", packs), encoding="utf-8")
    return str(path)


def test_a_column_that_shows_an_attribute_has_its_keyword() -> None:
    """In all three tables, whatever the style of their own names."""
    assert views.names(INSTANCE)["sopinstanceuid"] == "SOPInstanceUID"
    assert views.names(SERIES)["seriesInstanceUid"] == "SeriesInstanceUID"
    assert views.names(STUDY)["issuerOfPatientId"] == "IssuerOfPatientID"
    assert views.names(SERIES)["rows"] == "Rows"


def test_a_date_has_the_keyword_and_its_text_another_name() -> None:
    """As at Google and IDC, where StudyDate is a date. So is it in the rollups."""
    names = views.names(INSTANCE)
    assert (names["studydate_formatted"], names["studydate"]) == ("StudyDate", "StudyDate_raw")
    assert names["patientbirthdate_formatted"] == "PatientBirthDate"
    assert names["patientbirthdate"] == "PatientBirthDate_raw"
    assert names["seriesdate"] == "SeriesDate"
    assert views.names(STUDY)["studyDate"] == "StudyDate"


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (INSTANCE, "partitionName"),
        (INSTANCE, "pixelspacing_row"),
        (INSTANCE, "procedure_code"),
        (INSTANCE, "procedure_code_meaning"),
        (INSTANCE, "patientage_years"),
        (INSTANCE, "received_timestamp"),
        (SERIES, "sopClassUids"),
        (SERIES, "instanceCount"),
        (STUDY, "procedureCode"),
        (STUDY, "modalitiesInStudy"),
        (STUDY, "wadoRsUri"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_is_derived_keeps_its_name(table: Table, column: str) -> None:
    """A part of an attribute, a code, several values at once, a count, and the feed's own."""
    assert views.names(table)[column] == column


def test_every_keyword_is_one_of_dicoms() -> None:
    """A name that is not the column's own is a keyword of PS3.6, perhaps with `_raw` behind it."""
    for table in (INSTANCE, SERIES, STUDY):
        for column, name in views.names(table).items():
            if name != column:
                assert attribute_of(name.removesuffix("_raw")).keyword in name


def test_columns_of_ones_own_have_keywords_too(own: str) -> None:
    """A number gets it before the template's text. Columns inside sequences keep their names."""
    tables = added.tables(own)
    instance = views.names(tables["instance"])
    assert (instance["kvp"], instance["remarks"]) == ("KVP", "ImageComments")
    assert (instance["series_order"], instance["seriesnumber"]) == (
        "SeriesNumber",
        "SeriesNumber_raw",
    )
    assert instance["acme_mode"] == "acme_mode"
    assert instance["patientname_ideographic"] == "patientname_ideographic"
    assert views.names(tables["study"], tables["instance"])["protocolid"] == "protocolid"
    series = views.names(tables["series"], tables["instance"])
    assert series["acquisitionMatrix"] == "acquisitionMatrix"


def test_no_two_names_are_alike(own: str) -> None:
    """Not even by case, which DuckDB and Spark do not tell apart."""
    for tables in (added.tables(), added.tables(own)):
        for name in views.VIEWED:
            called = views.names(tables[name], tables["instance"])
            assert list(called) == tables[name].names
            assert len({each.lower() for each in called.values()}) == len(called)


def test_a_name_that_is_taken_twice_is_counted(own: str) -> None:
    """`studydate_raw` of one's own shows StudyDate as the template's column does: one gives way."""
    names = views.names(added.tables(own)["instance"])
    assert names["studydate"] == "StudyDate_raw"
    assert names["studydate_raw"] == "StudyDate_raw2"


@pytest.mark.parametrize(
    ("dialect", "create", "line", "end"),
    [
        ("duckdb", "CREATE OR REPLACE VIEW", '  "rows" AS "Rows",', '\nFROM "study";\n'),
        ("spark", "CREATE OR REPLACE VIEW", "  `rows` AS `Rows`,", "\nFROM `study`;\n"),
        ("tsql", "CREATE OR ALTER VIEW", "  [rows] AS [Rows],", "\nFROM [study];\nGO\n"),
    ],
)
def test_a_dialect_quotes_in_its_way(dialect: str, create: str, line: str, end: str) -> None:
    """Every name is quoted, so that `rows` and `sequence` are names everywhere."""
    sql = views.definitions(added.tables(), dialect)
    assert len(re.findall(f"^{create} ", sql, re.MULTILINE)) == len(views.VIEWED)
    assert line in sql.splitlines()
    assert sql.endswith(end)
    listed = [text for text in sql.splitlines() if text.startswith("  ")]
    assert all(
        re.fullmatch(r"  ([\"`\[]\w+[\"`\]])( AS ([\"`\[]\w+[\"`\]]))?,?", t) for t in listed
    )


def test_only_fabric_has_no_maps() -> None:
    """Its endpoint does not show the column `metadata`, so a view that names it would fail."""
    shown = {
        d: "metadata" in re.findall(r"\w+", views.definitions(added.tables(), d))
        for d in views.DIALECTS
    }
    assert shown == {"duckdb": True, "spark": True, "tsql": False}


def test_the_views_are_of_tables_that_show_instances() -> None:
    """`change`, `sync` and `rejected` are the project's own and have none."""
    assert set(views.VIEWED) < {table.name for table in TABLES}
