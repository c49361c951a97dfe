"""docs/use/questions.md: every query runs as it is pasted, and answers what it says.

Some answers are worked out again in plain Python, from the rows of the tables.
"""

import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pytest

from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.catalogue import catalogue
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.clinic import NAMES, ROOT_UID, Clinic
from dicom_assets_tests.support.command import ROOT, environment
from dicom_assets_tests.support.field_headers import Case, fill, of, uids

PAGE: Final = (ROOT / "docs" / "use" / "questions.md").read_text(encoding="utf-8")
_SQL: Final = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COLUMNS: Final = re.compile(r"\n\nColumns: (.*?)\.$", re.MULTILINE | re.DOTALL)
_TODAY: Final = "current_date"

Rows = list[dict[str, Any]]


class Question(NamedTuple):
    """A question of the page, its SQL, and the columns that it says there are."""

    asked: str
    sql: str
    columns: list[str]


def _questions() -> Iterator[Question]:
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        (sql,) = _SQL.findall(section)
        (columns,) = _COLUMNS.findall(section)
        yield Question(section.splitlines()[0], sql, re.findall(r"`(\w+)`", columns))


QUESTIONS: Final = tuple(_questions())


@pytest.fixture(scope="module")
def opened(clinic: Clinic) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the tables of the clinic."""
    with clinic.connection() as connection:
        yield connection


def _answer(opened: duckdb.DuckDBPyConnection, asked: str, **instead: str) -> Rows:
    (question,) = [q for q in QUESTIONS if q.asked.startswith(asked)]
    sql = question.sql
    for old, new in instead.items():
        assert old in sql
        sql = sql.replace(old, new)
    rows: Rows = opened.sql(sql).to_arrow_table().to_pylist()
    return rows


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: str(q.asked))
def test_a_query_runs_as_pasted(opened: duckdb.DuckDBPyConnection, question: Question) -> None:
    """It returns the columns that the page says, and rows; what arrived today may be nothing."""
    found = opened.sql(question.sql).to_arrow_table()
    assert found.column_names == question.columns
    assert found.num_rows > 0 or _TODAY in question.sql


def test_every_block_of_sql_is_a_question() -> None:
    """None stands outside of a question, and there are as many as there were."""
    assert [q.sql for q in QUESTIONS] == _SQL.findall(PAGE)
    assert len(QUESTIONS) == 19


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: str(q.asked))
def test_columns_are_named_as_fabric_needs_them(clinic: Clinic, question: Question) -> None:
    """Upper and lower case are the tables', because T-SQL in Fabric tells them apart."""
    words = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", question.sql)))
    tables = catalogue(columns_file=clinic.settings["DICOM_COLUMNS_FILE"])
    names = {name for table in NAMES if table in words for name in tables[table].names}
    given = set(re.findall(r"AS (\w+)", question.sql))
    lower = {name.lower() for name in names}
    assert {word for word in words - names - given if word.lower() in lower} == set()


def test_the_tables_are_opened_as_the_page_says(clinic: Clinic) -> None:
    """The page's own lines of Python print an answer, after the demo, in its folder."""
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=clinic.folder,
        env=environment(PYTHONIOENCODING="utf-8"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "modality" in done.stdout


# --- answers, worked out again ------------------------------------------------------------------


def test_the_exams_of_an_hour_are_those_of_the_rows(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """By modality of the series and hour of the study, each study once."""
    times = {row["studyInstanceUid"]: row["studyTime"] for row in clinic.rows("study")}
    exams = {
        (row["modality"], times[row["studyInstanceUid"]][:2], row["studyInstanceUid"])
        for row in clinic.rows("series")
        if times[row["studyInstanceUid"]]
    }
    answer = _answer(opened, "How many exams")
    found = {(row["modality"], row["hour_of_day"]): row["studies"] for row in answer}
    assert found == Counter(exam[:2] for exam in exams)
    assert found["CT", "08"] == 2


def test_a_scanner_is_busy_from_first_to_last_image(opened: duckdb.DuckDBPyConnection) -> None:
    """Two exams of twelve and ten minutes, eighteen minutes apart; Vienna is an hour ahead."""
    (row,) = [r for r in _answer(opened, "How long is a scanner") if r["stationName"] == "CT-7"]
    assert (row["exams"], row["busy_minutes"], row["idle_minutes"]) == (2, 22, 18)
    assert row["first_image"] == datetime(2026, 1, 5, 7, tzinfo=UTC)


def test_a_protocols_shares_make_a_hundred(opened: duckdb.DuckDBPyConnection) -> None:
    """The slice of the one study is another than that of the other: half and half."""
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in _answer(opened, "Is a protocol"):
        shares[row["modality"], row["protocolName"]].append(row["share_percent"])
    assert shares["CT", "Head"] == [50, 50]
    assert all(sum(parts) == pytest.approx(100, abs=0.2) for parts in shares.values())


def test_pixels_are_counted_by_frame(opened: duckdb.DuckDBPyConnection, clinic: Clinic) -> None:
    """Rows, columns, samples, bits and frames of every instance; frames as in `series`."""
    frames: Counter[str | None] = Counter()
    megabytes: Counter[str | None] = Counter()
    for row in clinic.rows("instance"):
        count = max(row["numberofframes"] or 1, 1)
        frames[row["modality"]] += count
        sides = [row[n] for n in ("rows", "columns", "samplesperpixel", "bitsallocated")]
        if None not in sides:
            megabytes[row["modality"]] += sides[0] * sides[1] * sides[2] * sides[3] / 8e6 * count
    answer = _answer(opened, "What does it take")
    assert {row["modality"]: row["frames"] for row in answer} == frames
    for row in answer:
        expected = pytest.approx(megabytes[row["modality"]])
        assert (row["uncompressed_megabytes"] or 0) == expected
    rolled: Counter[str | None] = Counter()
    for row in clinic.rows("series"):
        rolled[row["modality"]] += row["frameCount"]
    assert frames == rolled


def test_a_hand_without_a_side_is_found(opened: duckdb.DuckDBPyConnection) -> None:
    """One of two."""
    (row,) = [r for r in _answer(opened, "Where is the side") if r["bodypartexamined"] == "HAND"]
    assert (row["images"], row["without_side"]) == (2, 1)


def test_dose_is_read_from_the_packs_columns(opened: duckdb.DuckDBPyConnection) -> None:
    """The one image that tells a CTDIvol, beside one that does not."""
    (row,) = [r for r in _answer(opened, "Which images know") if r["with_ctdivol"]]
    assert (row["images"], row["mean_ctdivol"], row["greatest_kvp"]) == (2, 12.5, 55)


def test_conflicts_are_those_of_the_instances(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """Two patient IDs in one study, seen in `study` and in its instances."""
    uid = f"{ROOT_UID}.5"
    (study,) = [row for row in clinic.rows("study") if row["studyInstanceUid"] == uid]
    assert (study["patientIdCount"], study["conflictCount"]) == (2, 2)
    counted = {r["conflictCount"]: r["studies"] for r in _answer(opened, "How many studies contra")}
    assert counted == Counter(row["conflictCount"] for row in clinic.rows("study"))
    (row,) = _answer(opened, "In which attribute")
    assert (row["studyinstanceuid"], row["patient_ids"], row["study_descriptions"]) == (uid, 2, 2)


def test_accession_numbers_that_lack_are_counted_alike(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """By sender, and one by one, the newest first."""
    lack = [row for row in clinic.rows("study") if not row["accessionNumber"]]
    assert sum(r["without_accession"] for r in _answer(opened, "Who sends")) == len(lack)
    listed = [r["firstReceivedTimestamp"] for r in _answer(opened, "Which studies lack")]
    newest = sorted((row["firstReceivedTimestamp"] for row in lack), reverse=True)
    assert listed == newest[:20]


def test_patients_that_may_be_confused_are_found(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """An ID of two names that has no issuer, and a name with two IDs; by plain Python too."""
    studies = [row for row in clinic.rows("study") if not row["issuerOfPatientId"]]
    names = _grouped(studies, "patientId", "patientName")
    (shared,) = _answer(opened, "Which patient ID")
    assert [shared["patientId"]] == [key for key, several in names.items() if len(several) > 1]
    assert (shared["names"], shared["birth_dates"], shared["studies"]) == (2, 1, 3)
    (double,) = _answer(opened, "Which patient may")
    assert (double["patientName"], double["patient_ids"]) == (f"{MARK}Poe^Edgar", 2)


def _grouped(rows: Rows, key: str, value: str) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row[key] and row[value]:
            groups[row[key]].add(row[value])
    return groups


def test_ages_are_counted_in_decades(opened: duckdb.DuckDBPyConnection, clinic: Clinic) -> None:
    """Every study with an age is in one of them."""
    ages = [(r["patientAgeYears"], r["patientSex"]) for r in clinic.rows("study")]
    expected = Counter((int(years // 10 * 10), sex) for years, sex in ages if years is not None)
    answer = _answer(opened, "How old")
    assert {(row["years_from"], row["patientSex"]): row["studies"] for row in answer} == expected


def test_today_begins_at_midnight(opened: duckdb.DuckDBPyConnection, clinic: Clinic) -> None:
    """Taken for today, the day of the newest arrival shows what came from its midnight on."""
    instances = clinic.rows("instance")
    newest = max(row["received_timestamp"] for row in instances)
    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = Counter(r["modality"] for r in instances if r["received_timestamp"] >= midnight)
    answer = _answer(opened, "What arrived", **{_TODAY: f"DATE '{newest:%Y-%m-%d}'"})
    assert {row["modality"]: row["instances"] for row in answer} == expected
    assert sum(expected.values()) < len(instances)


def test_late_studies_are_days_late(opened: duckdb.DuckDBPyConnection, clinic: Clinic) -> None:
    """From the day of the study to the day of its first arrival."""
    days = sorted(
        (
            (row["firstReceivedTimestamp"].date() - row["studyDate"]).days
            for row in clinic.rows("study")
            if row["studyDate"]
        ),
        reverse=True,
    )
    late = [number for number in days if number > 7]
    assert [row["days_late"] for row in _answer(opened, "Which studies arrived")] == late[:20]
    every = _answer(opened, "Which studies arrived", **{"LIMIT 20": ""})
    assert [row["days_late"] for row in every] == late
    assert late[-1] in {10, 11}


def test_percentiles_are_those_of_the_rows(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """The median by modality, in hours, from the last image to the arrival."""
    hours: dict[str, list[float]] = defaultdict(list)
    for row in clinic.rows("series"):
        if row["lastAcquisitionTimestamp"]:
            took = row["firstReceivedTimestamp"] - row["lastAcquisitionTimestamp"]
            hours[row["modality"]].append(took / timedelta(hours=1))
    answer = {row["modality"]: row for row in _answer(opened, "How long from")}
    assert answer.keys() == hours.keys()
    for modality, row in answer.items():
        # Minutes are counted, so a minute may be missing.
        assert row["median_hours"] == pytest.approx(statistics.median(hours[modality]), abs=1 / 60)
        assert row["median_hours"] <= row["slowest_twentieth_hours"]


def test_studies_that_changed_later_are_in_the_log(
    opened: duckdb.DuckDBPyConnection, clinic: Clinic
) -> None:
    """One after a day; within two hours those that the sample deletes and stores again too."""
    moments: dict[str, list[datetime]] = defaultdict(list)
    for row in clinic.rows("change"):
        moments[row["studyinstanceuid"]].append(row["timestamp"])
    (row,) = _answer(opened, "Which studies changed")
    assert (row["studyinstanceuid"], row["created"], row["updated"]) == (f"{ROOT_UID}.1", 2, 2)
    # Hours are counted by their borders, so that at 1 whatever lies in two hours is there.
    sooner = {r["studyinstanceuid"] for r in _answer(opened, "Which studies ch", **{"24": "1"})}
    hours = {
        uid: {time.replace(minute=0, second=0, microsecond=0) for time in times}
        for uid, times in moments.items()
    }
    assert sooner == {uid for uid, several in hours.items() if len(several) > 1}
    assert len(sooner) > 2


def test_completeness_ends_where_an_hour_lacks(clinic: Clinic) -> None:
    """All hours at first; then one has not been followed, then one was not read."""
    sync = sorted(clinic.rows("sync"), key=lambda row: row["hour"])
    hours = [row["hour"] for row in sync]
    assert _complete(clinic, sync) == (hours[-1], 0, 0)
    assert _complete(clinic, [*sync[:5], *sync[6:]]) == (hours[4], 0, 1)
    behind = [*sync[:9], sync[9] | {"studyAt": None}, *sync[10:]]
    assert _complete(clinic, behind) == (hours[8], 1, 0)


def _complete(clinic: Clinic, sync: Rows) -> tuple[datetime, int, int]:
    with clinic.connection() as connection:
        connection.register("sync", pa.Table.from_pylist(sync, schema=catalogue()["sync"].arrow()))
        (row,) = _answer(connection, "How far")
        return row["complete_through"], row["behind"], row["missing"]


def test_one_name_in_several_forms_is_one_patient(tmp_path: Path) -> None:
    """With padding, with empty components, and not told; in studies of their own, and in one."""

    def in_first(entry: dict[str, Any]) -> dict[str, Any]:
        study, series, _ = uids(1)
        entry["metadata"] |= {"0020000D": of("UI", study), "0020000E": of("UI", series)}
        return entry | {"studyInstanceUid": study, "seriesInstanceUid": series}

    names = [of("PN", {"Alphabetic": n}) for n in ("DOE^JANE", "DOE^JANE^^^", "DOE^JANE ", "^^^^")]
    cases = [Case("alone", {"t00100010": n}) for n in names]
    cases += [Case("with others", {"t00100010": n}, spoil=in_first) for n in names]
    store = fill(tmp_path, [*cases, Case("else", {"t00100010": of("PN", "ROE^JANE")})]).store
    with duckdb.connect() as opened:
        for table in (INSTANCE, SERIES, STUDY):
            opened.register(table.name, store.open(table).rows())
        (patient,) = _answer(opened, "Which patient ID may be two patients")
        assert (patient["studies"], patient["names"]) == (5, 2)
        assert _answer(opened, "In which attribute do they") == []
        (conflicts,) = _answer(opened, "How many studies contradict themselves")
        assert (conflicts["conflictCount"], conflicts["studies"]) == (0, 5)
        rows = opened.sql("SELECT conflictCount, patientIdCount FROM study").fetchall()
        assert rows == [(0, 1)] * 5
        assert opened.sql("SELECT DISTINCT conflictCount FROM series").fetchall() == [(0,)]
