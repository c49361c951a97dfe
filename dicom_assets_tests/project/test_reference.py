"""The generated pages of the documentation say what the code says."""

from pathlib import Path

from dicom_assets import reference
from dicom_assets.schema import TABLES
from dicom_assets_tests.project.layout import ROOT


def test_no_generated_page_is_stale() -> None:
    """`make docs` would change nothing."""
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in reference.pages(ROOT).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make docs`"


def test_the_readme_holds_the_configuration() -> None:
    """The markers are there, so the table between them is kept up to date."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- configuration: generated -->" in readme
    assert "| `DICOM_SERVICE_URL` |" in readme


def test_every_column_is_described() -> None:
    """The page of columns has a row for each column of each table, and each says something."""
    page = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    for table in TABLES:
        section = page.split(f"## `{table.name}`")[1].split("\n## ")[0]
        for column in table.columns:
            assert f"| `{column.name}` |" in section
            assert column.meaning


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second time every page is up to date, and what a person wrote around it stays."""
    readme = tmp_path / "README.md"
    marked = "before\n<!-- configuration: generated -->\nold\n<!-- end -->\nafter\n"
    readme.write_text(marked, encoding="utf-8")
    assert len(reference.write(tmp_path)) == 4
    assert reference.write(tmp_path) == []
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
