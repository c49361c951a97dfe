"""`dicom-assets import`, and `status`, `find` and `sql` on what it has made."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from dicom_assets.commands.sql import questions
from dicom_assets_tests.support.command import complaint, run, told
from dicom_assets_tests.support.own_files import fill, image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a folder was imported; `printed` is what the command said."""
    folder = tmp_path_factory.mktemp("own")
    fill(folder / "given")
    (folder / "printed").write_text(told(folder, "import", "given", COLUMNS="80"), "utf-8")
    return folder


def _instances(folder: Path) -> list[dict[str, Any]]:
    return [
        *DeltaTable(folder / "data" / "own" / "instance")
        .to_pyarrow_dataset()
        .to_table()
        .to_pylist()
    ]


def test_one_command_fills_the_tables(own: Path) -> None:
    """Three images are rows whose file is where it was; the lines fit, without colours."""
    lines = (own / "printed").read_text("utf-8").splitlines()
    assert lines[0].startswith("import given   9 files, ")
    assert lines[1].startswith("2 studies · 2 series · 3 images (CT 2  MR 1)")
    assert lines[1].endswith("→ data/own")
    assert lines[2].startswith("refused 6: ")
    assert lines[-2] == ("receive times are those of this import; study dates are the files' own")
    assert lines[-1] == "next: dicom-assets report | find ACCESSION | sql"
    assert max(map(len, lines)) <= 80
    rows = _instances(own)
    assert sorted(row["sopinstanceuid"] for row in rows) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.2.1.1"]
    assert str(own / "given" / "deep" / "two") in {row["filepath"] for row in rows}


def test_refused_files_are_listed_for_the_owner_alone(own: Path) -> None:
    """Each with its reason."""
    path = own / "data" / "own" / "refused.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert len(rows) == 6
    assert rows[str(own / "given" / "cut.dcm")] == "cut short"
    assert rows[str(own / "given" / "some.zip" / "readme")] == "not DICOM"
    assert rows[str(own / "given" / "nameless.dcm")] == "without UIDs"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_status_is_five_lines_at_any_width(own: Path, width: int) -> None:
    """The only archive in `data` is meant; the exit code is 0."""
    lines = told(own, "status", COLUMNS=str(width)).splitlines()
    assert lines[0].startswith("COMPLETE  1 hour up to ")
    assert lines[1].startswith("  rows        instance 3   series 2   study 2")
    assert lines[2:] == ["  rejected    none", "  checks      none has run here"]
    assert max(map(len, lines)) <= width
    assert "service     nothing beyond" in told(own, "status", "--ask")


def test_a_table_that_has_not_followed_is_not_complete(own: Path, tmp_path: Path) -> None:
    """Its hour is named, and the exit code is 1; without tables it is 2."""
    shutil.copytree(own / "data" / "own", tmp_path / "data" / "own")
    sync = DeltaTable(tmp_path / "data" / "own" / "sync")
    sync.update(updates={"studyAt": "NULL"})
    hour = sync.to_pyarrow_dataset().to_table()["hour"][0].as_py()
    done = run(tmp_path, "status", COLUMNS="60")
    assert done.returncode == 1
    assert done.stdout.startswith("NOT COMPLETE  1 of 1 hour missing:")
    assert f"{hour:%Y-%m-%d-%H:%M} UTC" in done.stdout
    shutil.rmtree(tmp_path / "data" / "own" / "sync")
    done = run(tmp_path, "status")
    assert (done.returncode, done.stdout.splitlines()[0][:15]) == (2, "COULD NOT LOOK ")


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("ACC-1", 1),
        ("acc-*", 2),
        ("002", 1),
        ("muller zoe", 2),
        ("MULLER^ZO*", 2),
        ("müller 2021-03-04", 1),
        ("2020-01-01..2020-12-31", 1),
        ("20210304", 1),
        ("zoe", 0),
        ("ACC", 0),
    ],
)
def test_a_study_is_found_by_what_is_on_the_desk(own: Path, words: str, count: int) -> None:
    """By accession number, patient ID, name and day, all of which have to fit."""
    done = run(own, "find", "--json", *words.split())
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["count"]) == (0 if count else 1, count)
    assert facts["verdict"]["word"] == ("HERE" if count else "NOT IN THE FEED")


def test_a_patient_is_shown_by_patient_only(own: Path) -> None:
    """Neither name nor birth date nor ID otherwise."""
    plain, shown = told(own, "find", "ACC-1"), told(own, "find", "ACC-1", "--patient")
    assert plain.splitlines()[0] == "HERE  1 study"
    assert "accession ACC-1" in plain
    assert "1.2.1" in plain
    assert "Zoë" not in plain
    assert "001" not in plain
    assert "Müller^Zoë  -  001" in shown


def test_sql_shows_patients_only_by_name(own: Path) -> None:
    """Of `*` the patient's columns and the header are left out; a query may name them."""
    header, row = told(own, "sql", "SELECT * FROM study ORDER BY 2 LIMIT 1").splitlines()
    assert "accessionNumber" in header.split("\t")
    assert not {"patientName", "patientId", "patientBirthDate"} & {*header.split("\t")}
    assert "Zoë" not in row
    assert "metadata" not in told(own, "sql", "SELECT * FROM instance")
    named = told(own, "sql", "SELECT DISTINCT PatientName, patientsex FROM dicom_study")
    assert named.splitlines()[1].startswith("Müller^Zoë")


def test_sql_writes_new_files_for_the_owner(own: Path) -> None:
    """Texts in quotes, formulas harmless; nothing is overwritten."""
    query = "SELECT patientId, '=1+1' AS bad, -1 AS number, 'a' AS number FROM study ORDER BY 1"
    assert "2 rows → out.csv" in told(own, "sql", query, "--csv", "out.csv")
    lines = (own / "out.csv").read_text("utf-8").splitlines()
    assert lines[1] == '"001","\'=1+1",-1,"a"'
    assert (own / "out.csv").stat().st_mode & 0o777 == 0o600
    assert "not overwritten" in complaint(own, "sql", query, "--csv", "out.csv")
    told(own, "sql", "FROM study", "--parquet", "out.parquet")
    assert pq.read_table(own / "out.parquet").num_rows == 2
    assert "Binder Error" in complaint(own, "sql", "SELECT nothing FROM study", "--csv", "no.csv")
    assert not (own / "no.csv").exists()


def test_an_error_of_a_row_is_not_told(own: Path) -> None:
    """DuckDB quotes the value that it cannot convert."""
    line = complaint(own, "sql", "SELECT CAST(patientName AS int) FROM study")
    assert "ConversionException" in line
    assert "ller" not in line


def test_questions_have_names(own: Path) -> None:
    """Nineteen, and each answers; without a query they are listed."""
    assert len(questions()) == 19
    listed = told(own, "sql").splitlines()
    assert [line.split()[0] for line in listed] == [*questions()]
    answer = told(own, "sql", "--question", "completeness").splitlines()
    assert answer[0].startswith("first_hour\t")
    assert answer[1].endswith("\t0\t0")


def test_import_adds_and_takes_back(tmp_path: Path) -> None:
    """Under a name of its own; in the end nothing is left but the files."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a").write_bytes(image(1, 1))
    words = ("import", "given", "--name", "trial")

    def rows() -> int:
        return DeltaTable(tmp_path / "data" / "trial" / "study").count()

    told(tmp_path, *words)
    (tmp_path / "given" / "b").write_bytes(image(2, 1))
    second = told(tmp_path, *words)
    assert "1 image (CT 1)" in second
    assert "1 file there already" in second
    assert rows() == 2
    told(tmp_path, "import", "--undo", "--name", "trial")
    assert rows() == 1
    told(tmp_path, "import", "--undo", "--name", "trial")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".trial.lock"]
    assert len([*(tmp_path / "given").iterdir()]) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR TM")
def test_studies_spread_over_their_own_dates(tmp_path: Path) -> None:
    """They count as received then."""
    (tmp_path / "a").write_bytes(image(1, 1, StudyDate="20210304", StudyTime="101500"))
    (tmp_path / "b").write_bytes(image(2, 1, StudyDate="20220304", StudyTime="x"))
    told(tmp_path, "import", "a", "b", "--spread", "study-date")
    moments = sorted(str(row["received_timestamp"])[:16] for row in _instances(tmp_path))
    assert moments == ["2021-03-04 10:15", "2022-03-04 00:00"]
    assert told(tmp_path, "status").startswith("COMPLETE  2 hours up to 2022-03-04 01:00")


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        (("a",), {"DICOM_SERVICE_URL": "http://127.0.0.1:9"}, "DICOM_SERVICE_URL is set"),
        ((), {}, "name files or folders"),
        (("a", "--undo"), {}, "name files or folders"),
        (("--undo",), {}, "nothing to take back"),
        (("nowhere",), {}, "does not exist"),
        (("a", "--name", "../x"), {}, "--name"),
        (("a", "--name", "dicom"), {}, "--name"),
    ],
    ids=["service", "nothing", "both", "no archive", "no file", "path", "taken"],
)
def test_a_refusal_is_one_line_and_makes_nothing(
    tmp_path: Path, words: tuple[str, ...], settings: dict[str, str], named: str
) -> None:
    """What is wrong, and the remedy."""
    (tmp_path / "a").write_bytes(image(1))
    assert named in complaint(tmp_path, "import", *words, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_name_that_nobody_imported_is_refused(tmp_path: Path) -> None:
    """By any command that takes it."""
    for words in (("status", "--name", "x"), ("find", "--name", "x", "1.2.3")):
        assert "no archive of the name x" in complaint(tmp_path, *words)
