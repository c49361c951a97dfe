"""The generated pages of the documentation say what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dicom_assets import schema
from dicom_assets.commands.docs import columns_page, generated_pages, write_pages
from dicom_assets.schema import Table, added
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import TABLES
from dicom_assets_tests.support.layout import ROOT

COLUMNS = columns_page()


def test_no_generated_page_is_stale() -> None:
    """`make docs` would change nothing."""
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in generated_pages(ROOT).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make docs`"


def test_the_configuration_has_every_setting_once() -> None:
    """One row each, in one page only: the README and the other pages link it."""
    known = [field.metadata for field in fields(Settings) if field.metadata]
    rows = [f"| `{m['variable']}` | {m['shown']} |" for m in known]
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        expected = 1 if page == ROOT / "docs" / "reference" / "configuration.md" else 0
        assert {text.count(f"\n{row} ") for row in rows} == {expected}, page


def test_every_column_is_described() -> None:
    """The page of columns has a row for each column of each table, and each says something."""
    for table in TABLES:
        rows = _rows(table)
        assert [row["column"] for row in rows] == [f"`{name}`" for name in table.names]
        for row in rows:
            assert {row["meaning"], row.get("made from", "\N{EN DASH}")} != {"\N{EN DASH}"}


def _rows(table: Table) -> list[dict[str, str]]:
    """The rows of a table's section, from all tables in it, by title."""
    section = COLUMNS.split(f"\n## `{table.name}`\n")[1].split("\n## ")[0]
    found: list[dict[str, str]] = []
    for grid in re.findall(r"(?:^\|.*\n)+", f"{section}\n", re.MULTILINE):
        titles, _, *rows = (line.strip("| ").split(" | ") for line in grid.splitlines())
        found += [dict(zip(titles, row, strict=True)) for row in rows]
    return found


@pytest.mark.parametrize(("name", "count"), [("instance", 36), ("series", 11), ("study", 10)])
def test_the_templates_columns_stand_apart(name: str, count: int) -> None:
    """As many as the template has; the first of ours is the sequence."""
    section = COLUMNS.split(f"### The template's columns of `{name}`")[1]
    theirs, ours = section.split(f"### The columns that `{name}` has beside them")
    assert len(re.findall(r"^\| `", theirs, re.MULTILINE)) == count
    assert re.findall(r"^\| `(\w+)`", ours, re.MULTILINE)[0] == "sequence"


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        ("instance", "patientid", ("PatientID", "(0010,0020)", "LO", "1", "Z/D", "header")),
        (
            "instance",
            "study_timestamp",
            (*"\N{EN DASH}" * 4, "Z, X", "header: StudyDate, StudyTime, TimezoneOffsetFromUTC"),
        ),
        ("instance", "sequence", (*"\N{EN DASH}" * 5, "`change.sequence`")),
        ("instance", "imagetype", ("ImageType", "(0008,0008)", "CS", "2-n", "none", "header")),
        (
            "instance",
            "procedure_code_meaning",
            (
                *("CodeMeaning", "(0008,0104)", "LO", "1", "none"),
                "header: ProcedureCodeSequence[0].CodeMeaning",
            ),
        ),
        (
            "series",
            "studyDate",
            ("StudyDate", "(0008,0020)", "DA", "1", "Z", "latest: `studydate_formatted`"),
        ),
        ("study", "wadoRsUri", (*"\N{EN DASH}" * 4, "U", "address: `studyinstanceuid`")),
        ("study", "conflictCount", (*"\N{EN DASH}" * 5, "conflicts: 15 columns")),
    ],
)
def test_a_column_tells_its_attribute_and_its_origin(
    table: str, column: str, expected: tuple[str, ...]
) -> None:
    """Keyword, tag, VR, VM; the PS3.15 class, also of what is made of several; the lineage."""
    rows = {row["column"]: row for row in _rows(next(t for t in TABLES if t.name == table))}
    titles = ("keyword", "tag", "VR", "VM", "PS3.15", "made from")
    assert tuple(rows[f"`{column}`"][title] for title in titles) == expected


def test_what_shows_a_patients_date_is_never_without_a_class() -> None:
    """No column that is made of attributes with a class has none, but what counts."""
    counting = {"conflictCount", "patientIdCount", "acquisitionDurationSeconds", "seriesCount"}
    for table in added.tables().values():
        rows = {row["column"].strip("`"): row for row in _rows(table)}
        for column in table.columns:
            origins = [*column.paths, *(p for s in column.sources for p in _paths(s))]
            classed = any(path.attribute.ps315 != "-" for path in origins)
            if classed and column.name not in counting | {"instanceCount"}:
                assert rows[column.name]["PS3.15"] not in {"\N{EN DASH}", "none"}, column.name


def _paths(source: str) -> tuple[schema.Path, ...]:
    return added.tables()["instance"][source].paths


def test_the_cells_are_short() -> None:
    """So that the page can be read on one screen."""
    cells = [cell for table in TABLES for row in _rows(table) for cell in row.values()]
    assert max(map(len, cells)) <= 100
    assert sum(map(len, cells)) / len(cells) < 15


def test_the_packs_are_named() -> None:
    """Whoever adds columns sees which are ready."""
    assert all(f"`{name}`" in COLUMNS.split("\n## ")[0] for name in added.packs())


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second time every file is up to date."""
    assert {path.name for path in write_pages(tmp_path)} == {
        *("configuration.md", "checks.md", "columns.md", "faults.md", "views.sql", "uids.tsv")
    }
    assert write_pages(tmp_path) == []
