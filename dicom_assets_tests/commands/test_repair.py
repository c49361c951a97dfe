"""`dicom-assets repair`, as a data engineer types it: first what was found, then with --yes."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.schema import INSTANCE, STUDY, SYNC
from dicom_assets.tables.sync import open_hours
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.maintained import PATIENT
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, at, contents, hours, key

# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two studies, each in an hour of its own."""
    bench = Bench(store_in(tmp_path / "tables"))
    for study in (0, 1):
        bench.archive.create(60 * study + 1, of=key(study=str(study)), patientname=PATIENT)
        bench.sync(hours(study))
    return bench


def _repair(bench: Bench, *words: str) -> tuple[int, str]:
    """The exit code, and what the command said."""
    root = str(Path(bench.store.urls[SYNC.name]).parent)
    environment = {"DICOM_TABLES_URL": root, "DICOM_SERVICE_URL": ""}
    done = CliRunner().invoke(main, ["repair", *words], env=environment)
    overhear(done.output)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not re.search(r"PHI|1\.1\b", done.output)
    return done.exit_code, done.output


def test_tables_of_ours_need_no_repair(bench: Bench) -> None:
    """The command says so for each of them, and writes nothing."""
    before = bench.store.version(INSTANCE)
    code, said = _repair(bench)
    assert (code, said.count("nothing of another program")) == (0, 6)
    code, said = _repair(bench, "--yes")
    assert (code, bench.store.version(INSTANCE)) == (0, before)


def test_what_somebody_wrote_is_shown_and_with_yes_made_anew(bench: Bench) -> None:
    """Without it nothing is changed; afterwards the hours are asked for."""
    rows = contents(bench.store, INSTANCE, *INSTANCE.key, "sequence", "patientname")
    where = "studyinstanceuid = '1.1'"
    bench.store.delta(INSTANCE).update(updates={"patientname": "'PHI'"}, predicate=where)
    bench.store.delta(STUDY).delete("patientName IS NOT NULL")
    written = bench.store.version(INSTANCE)
    code, said = _repair(bench)
    assert code == 1
    assert re.search(rf"instance: version {written} \(UPDATE of .*, 1 files added, 1 rem", said)
    assert "instance: touched 1, of which 1 to be made anew" in said
    assert "study: touched 2, of which 2 to be made anew" in said
    assert said.endswith("run this again with --yes.\n")
    assert bench.store.version(INSTANCE) == written
    code, said = _repair(bench, "--yes")
    assert code == 0
    assert "instance: repaired (1 read again, 1 hours)" in said
    assert "study: repaired (2 studies)" in said
    assert list(open_hours(bench.store)) == [at(60)]
    bench.sync(hours(1))
    assert contents(bench.store, INSTANCE, *INSTANCE.key, "sequence", "patientname") == rows
    assert _repair(bench)[0] == 0


def test_after_lost_commits_all_hours_are_asked_for(bench: Bench) -> None:
    """The log does not know them; a person says so, for a table."""
    root = Path(bench.store.urls[INSTANCE.name])
    for path in sorted((root / "_delta_log").glob("*.json"))[-1:]:
        path.unlink()
    assert len(contents(bench.store, INSTANCE, "sequence")) == 1
    code, said = _repair(bench, "instance", "--all")
    assert (code, "instance: touched everything, of which 0" in said) == (1, True)
    assert _repair(bench, "instance", "--all", "--yes")[0] == 0
    assert list(open_hours(bench.store)) == [at(0), at(60)]
    bench.sync(hours(0, 2))
    assert len(contents(bench.store, INSTANCE, "sequence")) == 2


def test_names_that_are_no_tables_are_refused(bench: Bench) -> None:
    """And --all without a name."""
    assert "none of change, sync, instance" in _repair(bench, "studies")[1]
    assert "--all needs the name of a TABLE" in _repair(bench, "--all")[1]
