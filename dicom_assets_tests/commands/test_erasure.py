"""`dicom-assets erased`, as a data protection officer types it: what remains, until when."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets_tests.support.canary import overhear
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


def _erased(root: Path, *words: str) -> tuple[int, str]:
    """The exit code, and what the command said."""
    environment = {"DICOM_TABLES_URL": str(root), "COLUMNS": "120", "DICOM_SERVICE_URL": ""}
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
    code, said = _erased(template.parent / "alive", STUDY)
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
