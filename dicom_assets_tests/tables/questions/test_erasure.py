"""What still holds a study, from the day it is there until nothing tells of it."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.erasure import Remains, Traces, judge_traces, traces_of
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.maintained import PATIENT, age
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, hours, key, run
from dicom_assets_tests.support.toy import TOY, WITH_TOY

GONE, KEPT = "1.1", "1.10"
"""The study that is deleted, and one whose UID begins with its."""
SOP = key("1", study="1")[3]
RETENTION = timedelta(days=30)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two studies; an entry of the first cannot be used."""
    root = tmp_path_factory.mktemp("template")
    bench = made(root)
    bench.sync(hours(0))
    return root


def made(root: Path) -> Bench:
    """An archive of two studies in its first hour."""
    bench = Bench(store_in(root))
    for number, study in enumerate(("1", "1", "10"), start=1):
        bench.archive.create(number, of=key(str(number), study=study), patientname=PATIENT)
    bench.archive.create(4, of=key("4", study="1"))
    bench.archive.unreadable = {4: "header cannot be decoded"}
    return bench


def deleted(root: Path) -> Bench:
    """The next hour has removed the first study."""
    bench = made(root)
    for number in (1, 2, 4):
        bench.archive.delete(60 + number, of=key(str(number), study="1"))
    bench.sync(hours(1))
    return bench


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """The same, for one test."""
    return Path(shutil.copytree(template, tmp_path / "tables"))


def night(store: Store) -> None:
    """A night for every table."""
    for table in TABLES:
        maintain(store, table, Run("night", datetime.now(UTC)))


def pass_days(store: Store, days: float) -> None:
    """So many days pass, and a night at their end."""
    for table in TABLES:
        age(store, table, days)
    night(store)


def files(found: Traces) -> dict[str, int]:
    """The old files, by table."""
    return {name: remains.old_files for name, remains in found.tables.items()}


def rows(found: Traces) -> dict[str, int]:
    """The rows of live versions, by table."""
    return {name: remains.rows for name, remains in found.tables.items()}


def test_a_study_that_is_there_is_alive(root: Path) -> None:
    """Its rows are counted, and nothing says when they go."""
    found = traces_of(store_in(root), GONE)
    assert rows(found) == {"instance": 2, "series": 1, "study": 1, "change": 3}
    assert (found.is_alive, found.is_erased, found.rejected) == (True, False, 1)
    assert found.tables["instance"].entries == 1
    assert found.tables["instance"].entries_until is None
    assert set(files(found).values()) == {0}
    assert (judge_traces(found).name, judge_traces(found).is_fine) == ("alive", False)


def test_a_study_that_was_never_there_is_erased(root: Path) -> None:
    """Whatever other UIDs begin with it."""
    found = traces_of(store_in(root), "1.100")
    assert (found.is_alive, found.is_erased, found.rejected) == (False, True, 0)
    assert found.tables["change"] == Remains(entries=found.tables["change"].entries)
    assert (judge_traces(found).name, judge_traces(found).is_fine) == ("erased", True)


def test_before_anything_is_filled_there_is_nothing(tmp_path: Path) -> None:
    """No table, no trace, no folder."""
    found = traces_of(store_in(tmp_path / "tables"), GONE)
    assert (found.is_alive, found.is_erased) == (False, True)
    assert not (tmp_path / "tables").exists()


def test_a_deleted_study_remains_in_old_files_and_logs(root: Path) -> None:
    """And it is told until when; the other study is alive."""
    store, before = deleted(root).store, datetime.now(UTC)
    found = traces_of(store, GONE)
    assert (found.is_alive, found.is_erased) == (False, False)
    assert (judge_traces(found).name, judge_traces(found).is_fine) == ("remains", False)
    assert rows(found) == {"instance": 0, "series": 0, "study": 0, "change": 6}
    for table in (INSTANCE, SERIES, STUDY):
        remains = found.tables[table.name]
        assert remains.old_files == 1
        assert remains.files_until is not None
        assert abs(remains.files_until - RETENTION - before) < timedelta(minutes=2)
        assert remains.entries >= 1
        assert remains.entries_until is not None
        assert remains.entries_until >= remains.files_until
    assert traces_of(store, KEPT).is_alive


def test_a_shorter_retention_is_told(root: Path) -> None:
    """As the setting is now, not as it was."""
    store = deleted(root).store
    (long, short) = (
        traces_of(steps.store_of(store.urls, retention_hours=hours_), GONE)
        .tables["study"]
        .files_until
        for hours_ in (720, 168)
    )
    assert long is not None
    assert short is not None
    assert long - short == timedelta(hours=720 - 168)


def test_it_goes_when_it_was_said_to_go(root: Path) -> None:
    """Files after the retention, then the logs; `change` keeps its UIDs."""
    store = deleted(root).store
    pass_days(store, 29)
    assert files(traces_of(store, GONE))["instance"] == 1
    pass_days(store, 2)
    found = traces_of(store, GONE)
    assert (found.is_erased, found.tables["instance"]) == (True, Remains())
    assert found.tables["change"].rows == 6
    for entry in Path(store.urls["instance"]).rglob("*"):
        assert entry.is_dir() or SOP not in entry.read_text(encoding="latin-1")


def test_the_log_of_a_busy_table_forgets_not_later_than_was_said(root: Path) -> None:
    """It is kept up to a checkpoint that is older than what is kept: other hours go on meanwhile.

    A commit whose file is gone counts, unless what it told of the file rules the study out.
    """
    bench = deleted(root)
    store = bench.store
    until = traces_of(store, GONE).tables["instance"].entries_until
    assert until is not None
    days, told = (until - datetime.now(UTC)).total_seconds() / 86_400, list[int]()
    for week in range(int(days / 7) + 1):
        bench.archive.create(60 * (2 + week), of=key("5", study=str(50 + week)))
        bench.sync(hours(2 + week))
        pass_days(store, 7)
        found = traces_of(store, GONE).tables["instance"]
        told.append(found.entries)
        assert found.old_files == (1 if week < 4 else 0)
    assert told[3] > 0, "four weeks later the log still tells of it"
    assert told[-1] == 0
    assert traces_of(store, "9.9").is_erased
    assert traces_of(store, GONE).is_erased


def test_garbage_of_a_killed_run_counts(root: Path) -> None:
    """Whole, half-written, or cut: until it is old enough to be removed."""
    store = deleted(root).store
    pass_days(store, 31)
    folder = Path(store.urls["instance"]) / "partitionName=Microsoft.Default"
    other = made(root.parent / "other")
    other.sync(hours(0))
    (whole,) = Path(other.store.urls["instance"]).rglob("part-*.parquet")
    shutil.copy(whole, folder / "part-killed.parquet")
    assert files(traces_of(store, GONE))["instance"] == 1
    (folder / "part-cut.parquet").write_bytes(whole.read_bytes()[:1000])
    (folder / "part-half.parquet#1").write_bytes(whole.read_bytes()[:1000])
    found = traces_of(store, GONE).tables["instance"]
    assert (found.old_files, found.unreadable) == (1, 2)
    assert found.files_until is not None
    assert not traces_of(store, "9.9").is_erased
    pass_days(store, 31)
    found = traces_of(store, GONE).tables["instance"]
    assert (found.old_files, found.unreadable) == (0, 0)
    assert len(list(folder.iterdir())) == 1


def test_how_far_the_search_has_come_is_told(root: Path) -> None:
    """In bytes, up to all of them."""
    told: list[tuple[int, int]] = []
    traces_of(store_in(root), GONE, lambda done, of: told.append((done, of)))
    assert len(told) >= 4
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_what_statistics_rule_out_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The footer of a file says that it holds no such study."""
    read: list[list[int]] = []
    from pyarrow.parquet import ParquetFile

    iter_batches = ParquetFile.iter_batches

    def noted(self: ParquetFile, *given: object, **how: list[int]) -> object:
        read.append(how["row_groups"])
        return iter_batches(self, *given, **how)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(ParquetFile, "iter_batches", noted)
    traces_of(store_in(root), "9.9")
    assert read == [[]] * 4
    read.clear()
    traces_of(store_in(root), GONE)
    assert read == [[0]] * 4


def test_of_change_it_names_rows_only_as_what_they_are(root: Path) -> None:
    """The log of changes counts for no study: its keys are needed."""
    store = deleted(root).store
    found = Traces(
        GONE,
        {
            **{t.name: Remains() for t in (INSTANCE, SERIES, STUDY)},
            CHANGE.name: traces_of(store, GONE).tables["change"],
        },
    )
    assert found.is_erased


def test_a_further_table_is_searched_and_one_that_is_not_known_is_named(tmp_path: Path) -> None:
    """Nothing is called erased while a table that somebody added may hold it."""
    bench = Bench(store_in(tmp_path, WITH_TOY))
    for number in (1, 2):
        bench.archive.create(number, of=key(str(number), study="1"))
    bench.sync(hours(0))
    steps.derive(bench.store, TOY, hours(0), run())
    assert traces_of(bench.store, GONE).tables["toy"].rows == 1
    plain = traces_of(store_in(tmp_path), "1.9")
    assert (plain.is_gone, plain.is_erased, plain.unknown) == (True, False, ("toy",))
    verdict = judge_traces(plain)
    assert (verdict.name, verdict.is_fine) == ("unknown", False)
    assert "toy" in verdict.sentence
    assert judge_traces(traces_of(bench.store, "1.9")).name == "erased"
