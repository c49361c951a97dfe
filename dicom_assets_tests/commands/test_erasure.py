"""`dicom-assets erased`, as a data protection officer types it: what remains, until when."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import SERIES
from dicom_assets.schema import STUDY as STUDY_TABLE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets.window import Window, floor_hour, ticks_of
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.history import header, study_uid
from dicom_assets_tests.support.maintained import PATIENT, age
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, hours, key

# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
STUDY = "1.4711"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one study, which the next hour has deleted."""
    root = tmp_path_factory.mktemp("erased") / "tables"
    root.mkdir()
    bench = Bench(store_in(root))
    bench.archive.create(1, of=key(study="4711"), patientname=PATIENT)
    bench.sync(hours(0))
    shutil.copytree(root, root.parent / "alive")
    bench.archive.delete(61, of=key(study="4711"))
    bench.sync(hours(1))
    return root


def _erased(root: Path, *words: str, url: str = "") -> tuple[int, str]:
    """The exit code, and what the command said. An hour is not due for a day."""
    environment = {"DICOM_TABLES_URL": str(root), "COLUMNS": "120", "DICOM_SERVICE_URL": url}
    environment["DICOM_DELAY_MINUTES"] = "1440"
    done = CliRunner().invoke(main, ["erased", *words], env=environment)
    overhear(done.output)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert PATIENT not in done.output
    return done.exit_code, re.sub(r"\s+", " ", done.stdout)


def _pass(store: Store, days: float) -> None:
    for table in TABLES:
        age(store, table, days)
        maintain(store, table, Run("night", datetime.now(UTC)))


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_study_that_is_there_ends_with_one(template: Path) -> None:
    """And with what to do."""
    code, said = _erased(template.parent / "alive", f" {STUDY} ")
    assert code == 1
    assert "alive: the tables show the study. Delete it in the DICOM service" in said


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_deleted_study_ends_with_one_until_nothing_holds_it(
    template: Path, tmp_path: Path
) -> None:
    """First old files hold it, and after the retention nothing; the log of changes is told."""
    root = Path(shutil.copytree(template, tmp_path / "tables"))
    code, said = _erased(root, STUDY)
    assert code == 1
    assert "remains: no table shows it" in said
    assert re.search(r"instance │ 0 │ 1 │ 20\d\d-", said)
    _pass(store_in(root), 8)
    assert _erased(root, STUDY)[0] == 1
    _pass(store_in(root), 31)
    code, said = _erased(root, STUDY)
    assert (code, "erased: neither tables nor old files" in said) == (0, True)
    assert "keeps the UIDs of 2 entries" in said


@pytest.mark.shows_patients("the UID that was asked for")
def test_the_same_facts_come_as_json(template: Path) -> None:
    """For those who file them."""
    code, said = _erased(template, STUDY, "--json")
    told = json.loads(said)
    assert (code, told["is_alive"], told["is_erased"]) == (1, False, False)
    assert told["tables"]["instance"]["old_files"] == 1
    assert datetime.fromisoformat(told["tables"]["instance"]["files_until"]) > datetime.now(UTC)


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_study_that_nobody_knows_ends_with_zero(template: Path) -> None:
    """Nothing holds it."""
    assert _erased(template, "1.2.3")[0] == 0


@pytest.mark.parametrize("asked", ["4711", "Doe^Jane", "1..2", "1.2'"])
def test_what_is_no_uid_is_refused(template: Path, asked: str) -> None:
    """Before anything is looked at."""
    assert _erased(template, asked)[0] == 2


STAYS, GOES, RETURNS = 1, 2, 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A service that has changed since its tables followed it: one deletion, one second birth."""
    folder = tmp_path_factory.mktemp("served")
    first, now = floor_hour(datetime.now(UTC)) - timedelta(hours=12), ticks_of(datetime.now(UTC))
    archive, window = Archive(folder / "archive"), Window(ticks_of(first), ticks_of(first) + 1)
    for number in (STAYS, GOES, RETURNS):
        archive.store(header(number, name=PATIENT), at=window.start)
    archive.delete(study_uid(RETURNS), at=window.start)
    (folder / "tables").mkdir()
    store, by = store_in(folder / "tables"), Run("run", datetime.now(UTC))
    with server.start(archive) as running:
        with feed_of(running.url) as feed:
            steps.add_entries(store, window, feed, by)
            steps.follow_log(store, window, feed, by)
        for table in (SERIES, STUDY_TABLE):
            steps.derive(store, table, window, by)
        archive.delete(study_uid(GOES), at=now)
        archive.store(header(RETURNS, name=PATIENT), at=now)
        yield running.url, folder / "tables"
    archive.close()


@pytest.mark.shows_patients("the UID that was asked for")
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (STAYS, r"alive: the tables show the study\. Delete it in the DICOM service: "),
        (
            GOES,
            (
                r"alive: the tables show the study\. It was deleted at \d\d:\d\d:\d\d UTC "
                r"\([\d-]+, entry \d+\); its hour ends at \d\d:00 and is read at "
                r"[\d-]+ \d\d:00 UTC \(DICOM_DELAY_MINUTES\), and removes its rows: nothing to do\."
            ),
        ),
        (
            RETURNS,
            r"returns: no table shows it, but it was stored at \d\d:\d\d:\d\d UTC .* its hour ends",
        ),
    ],
    ids=["stays", "goes", "returns"],
)
def test_an_hour_that_is_not_over_is_looked_at(
    served: tuple[str, Path], number: int, said: str
) -> None:
    """A deletion on its way is no study to delete; a study on its way is not erased."""
    url, root = served
    code, told = _erased(root, study_uid(number), url=url)
    assert (code, bool(re.match(said, told))) == (1, True), "the verdict comes first"
    plain = json.loads(_erased(root, study_uid(number), "--json", url=url)[1])
    assert next(iter(plain)) == "verdict"
    assert (plain["is_erased"], plain["served"]) == (False, 0 if number == GOES else 1)


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_service_that_does_not_answer_is_said(served: tuple[str, Path]) -> None:
    """The tables, their files and logs are looked at all the same."""
    code, told = _erased(served[1], study_uid(STAYS), url="http://127.0.0.1:9")
    assert (code, told.startswith("alive: ")) == (1, True)
    assert "The service could not be asked" in told
