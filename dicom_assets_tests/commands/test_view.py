"""`dicom-assets view`: what it prints makes views in DuckDB, for queries from Google and IDC.

The queries name tables and columns as people write them there; only the name of the table is ours.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date

import click
import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.commands.view import view
from dicom_assets.schema import added, views
from dicom_assets_tests.support.clinic import Clinic
from dicom_assets_tests.support.command import ROOT, complaint, told


@pytest.fixture(scope="module")
def viewed(clinic: Clinic) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the tables of the clinic, and the views that the command prints there."""
    with clinic.connection() as connection:
        connection.execute(told(clinic.folder, "view", **clinic.settings))
        yield connection


@pytest.mark.parametrize("table", views.VIEWED)
def test_a_view_shows_every_column_of_its_table(
    viewed: duckdb.DuckDBPyConnection, clinic: Clinic, table: str
) -> None:
    """Under the names that are said, with the same values in the same rows."""
    tables = added.tables(clinic.settings["DICOM_COLUMNS_FILE"])
    names = views.names(tables[table], tables["instance"])
    shown = viewed.table(f"dicom_{table}").to_arrow_table()
    held = viewed.table(table).to_arrow_table()
    assert shown.column_names == [*names.values()]
    assert held.column_names == [*names]
    assert _values(shown) == _values(held)


def _values(rows: pa.Table) -> list[str]:
    return sorted(repr([*row.values()]) for row in rows.to_pylist())


def test_a_cohort_is_selected_as_in_idc(viewed: duckdb.DuckDBPyConnection, clinic: Clinic) -> None:
    """Studies of some years by modality: StudyDate is a date, and UIDs have their keywords."""
    found = viewed.sql("""
        SELECT Modality, EXTRACT(YEAR FROM StudyDate) AS year,
               COUNT(DISTINCT StudyInstanceUID) AS studies
        FROM dicom_instance
        WHERE Modality IN ('CT', 'MR') AND StudyDate BETWEEN '2001-01-01' AND '2004-12-31'
        GROUP BY Modality, year
    """).fetchall()
    studies = {
        (row["modality"], row["studydate_formatted"].year, row["studyinstanceuid"])
        for row in clinic.rows("instance")
        if row["modality"] in {"CT", "MR"}
        and row["studydate_formatted"]
        and date(2001, 1, 1) <= row["studydate_formatted"] <= date(2004, 12, 31)
    }
    assert {(kind, year): count for kind, year, count in found} == Counter(s[:2] for s in studies)
    assert len(found) > 2


def test_slices_are_counted_as_in_bigquery(
    viewed: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """Numbers that are texts there are cast, which does no harm to numbers."""
    found = viewed.sql("""
        WITH stacks AS (
          SELECT SeriesInstanceUID, COUNT(DISTINCT SOPInstanceUID) AS slices,
                 MAX(TRY_CAST(SliceThickness AS DOUBLE)) AS thickness
          FROM dicom_instance
          WHERE Modality = 'CT' AND CAST(Rows AS INT) >= 1 AND KVP IS NOT NULL
          GROUP BY SeriesInstanceUID
        )
        SELECT COUNT(*), SUM(slices) FROM stacks WHERE thickness BETWEEN 0.5 AND 10
    """).fetchall()
    slices = Counter(
        row["seriesinstanceuid"]
        for row in clinic.rows("instance")
        if row["modality"] == "CT" and row["rows"] and row["kvp"]
        if row["slicethickness"] and row["slicethickness"] <= 10
    )
    assert found == [(len(slices), slices.total())]
    assert len(slices) > 2


def test_series_are_searched_as_in_idc_index(
    viewed: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """A row for each series, with the attributes of its study and patient, and its count."""
    found = viewed.sql("""
        SELECT PatientID, StudyInstanceUID, SeriesInstanceUID, SeriesDescription, instanceCount
        FROM dicom_series
        WHERE Modality = 'CT' AND BodyPartExamined LIKE '%HEAD%' AND Manufacturer = 'Acme'
        ORDER BY instanceCount DESC, SeriesInstanceUID
    """).fetchall()
    names = ("patientId", "studyInstanceUid", "seriesInstanceUid", "seriesDescription")
    expected = [
        (*(row[name] for name in names), row["instanceCount"])
        for row in sorted(clinic.rows("series"), key=lambda row: str(row["seriesInstanceUid"]))
        if row["stationName"] == "CT-7"
    ]
    assert found == expected
    assert len(found) == 2


def test_the_page_of_views_is_for_everybody(clinic: Clinic) -> None:
    """docs/reference/views.sql runs on tables with columns of one's own, and leaves those out."""
    with clinic.connection() as connection:
        connection.execute((ROOT / "docs" / "reference" / "views.sql").read_text(encoding="utf-8"))
        names = connection.table("dicom_instance").columns
    assert "StudyInstanceUID" in names
    assert "KVP" not in names


def test_the_choices_are_the_dialects() -> None:
    """The command offers each dialect that can be written."""
    (option,) = [p for p in view.params if p.name == "dialect"]
    assert isinstance(option.type, click.Choice)
    assert [*option.type.choices] == [*views.DIALECTS]


@pytest.mark.parametrize("dialect", views.DIALECTS)
def test_a_dialect_is_printed(dialect: str) -> None:
    """Without a service, without tables: the SQL needs the catalogue only."""
    done = CliRunner().invoke(main, ["view", "--dialect", dialect])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == views.definitions(added.tables(), dialect)


def test_a_file_of_columns_that_is_wrong_is_named(clinic: Clinic) -> None:
    """One line, with the variable and the remedy."""
    missing = str(clinic.folder / "missing.toml")
    line = complaint(clinic.folder, "view", DICOM_COLUMNS_FILE=missing)
    assert "DICOM_COLUMNS_FILE" in line
    assert "cannot be read" in line
