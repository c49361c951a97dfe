"""`dicom-assets find`, as a PACS administrator types it: what is known, the next step, the code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.questions import find as questions
from dicom_assets.tables.questions.find import ALL_TABLES, Verdict
from dicom_assets.window import Window, floor_hour, ticks_of
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.canary import MARK, overhear
from dicom_assets_tests.support.command import run
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.history import header, study_uid
from dicom_assets_tests.support.steps import store_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST: Final = floor_hour(datetime.now(UTC)) - timedelta(hours=12)
CANARY: Final = f"{MARK}Canary"
# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
IN_STEP, DELETED, UNREAD, YOUNG = 1, 2, 3, 4


@dataclass(frozen=True)
class World:
    """A service, and a folder whose tables have followed its first two hours."""

    url: str
    folder: Path

    def settings(self, **settings: str) -> dict[str, str]:
        """The environment of the command."""
        return {
            "DICOM_SERVICE_URL": self.url,
            "DICOM_TABLES_URL": str(self.folder / "tables"),
            "DICOM_START_TIME": f"{FIRST:%Y-%m-%dT%H:%M:%SZ}",
            "COLUMNS": "200",
        } | settings

    def find(self, *words: str, **settings: str) -> tuple[int, str]:
        """The exit code, and what the command said; in this process, which has Dagster loaded."""
        done = CliRunner().invoke(main, ["find", *words], env=self.settings(**settings))
        overhear(done.output)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert "PHI" not in done.output
        return done.exit_code, re.sub(r"\s+", " ", done.stdout)


def _at(hours: float) -> int:
    return ticks_of(FIRST + timedelta(hours=hours))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four studies: in step, deleted, in an hour that was not read, and too young."""
    folder = tmp_path_factory.mktemp("find")
    archive = Archive(folder / "archive")
    archive.store(header(IN_STEP, name=CANARY), at=_at(0.1))
    archive.store(header(DELETED, name=CANARY), at=_at(0.2))
    archive.delete(study_uid(DELETED), at=_at(1.1))
    archive.store(header(UNREAD, name=CANARY), at=_at(3.5))
    archive.store(header(YOUNG, name=CANARY), at=_at(12))
    with server.start(archive) as running:
        _fill(folder, running.url)
        yield World(running.url, folder)
    archive.close()


def _fill(folder: Path, url: str) -> None:
    store, window = store_in(folder / "tables"), Window(_at(0), _at(2))
    run_ = Run("run", datetime.now(UTC))
    with feed_of(url) as feed:
        steps.add_entries(store, window, feed, run_)
        steps.follow_log(store, window, feed, run_)
    for table in (SERIES, STUDY):
        steps.derive(store, table, window, run_)


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_study_in_step_ends_with_zero(world: World) -> None:
    """Its entry, its hour, its rows, what the service says; and nothing to do. As a process."""
    done = run(world.folder, "find", study_uid(IN_STEP), "--entries", **world.settings())
    said = re.sub(r"\s+", " ", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PHI" not in said
    assert said.startswith("HERE in step: "), "the verdict comes first"
    assert "in step: the tables hold it as the service does: nothing to do." in said
    for shown in ("Create", f"{FIRST:%Y-%m-%d-%H:%M}", "Microsoft.Default", study_uid(IN_STEP)):
        assert shown in said
    assert "materialize" not in said


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_uid_may_come_with_spaces(world: World) -> None:
    """As it is copied from a table, or from a scanner."""
    said = [world.find(f"{blank}{study_uid(IN_STEP)}{blank}") for blank in ("", " ")]
    assert [code for code, _ in said] == [0, 0]
    assert said[1][1].startswith("HERE in step: ")


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_deleted_study_ends_with_zero(world: World) -> None:
    """By its UID, and by the sequence of its first entry."""
    for asked in (study_uid(DELETED), "2"):
        code, said = world.find(asked)
        assert code == 0
        assert "deleted: deleted in the service in the hour" in said


@pytest.mark.shows_patients("the UID that was asked for")
def test_an_hour_that_was_not_read_ends_with_one_and_the_command(world: World) -> None:
    """What to paste is one line, with the hour's own key."""
    code, said = world.find(study_uid(UNREAD))
    key = f"{FIRST + timedelta(hours=3):%Y-%m-%d-%H:%M}"
    assert code == 1
    assert "has no seal: run it." in said
    assert (
        "dagster asset materialize -m dicom_assets.definitions "
        f"--select change,instance,series,study --partition {key}" in said
    )


@pytest.mark.shows_patients("the UID that was asked for")
def test_json_gives_the_same_facts(world: World) -> None:
    """For scripts: nothing but JSON on stdout."""
    code, said = world.find(study_uid(YOUNG), "--json")
    told: dict[str, Any] = json.loads(said)
    hour = FIRST + timedelta(hours=12)
    assert next(iter(told)) == "verdict"
    is_young = told["verdict"]["name"] == "too young"
    assert is_young or told["verdict"]["name"] == "no seal", "the tests ran over an hour's end"
    assert code == (0 if is_young else 1)
    assert [(e["sequence"], e["hour"]) for e in told["fresh"]] == [(5, hour.isoformat())]
    assert (told["asked"], told["level"], told["served"]) == (study_uid(YOUNG), "study", 1)
    assert told["rows"] == {"instance": 0, "series": 0, "study": 0}
    assert told["seals"] == [{"hour": hour.isoformat(), "is_sealed": False, "lagging": []}]
    assert len(told["commands"]) == (0 if is_young else 1)


@pytest.mark.shows_patients("the UID that was asked for")
def test_a_service_that_cannot_be_reached_is_said_and_not_fatal(world: World) -> None:
    """What the tables know is told all the same."""
    code, said = world.find(study_uid(IN_STEP), DICOM_SERVICE_URL="http://127.0.0.1:9")
    assert code == 0
    assert "The service could not be asked" in said
    assert "the tables hold it as the log says" in said


@pytest.mark.parametrize("asked", ["", " ", "*", "^^"])
def test_words_that_say_nothing_end_with_two(world: World, asked: str) -> None:
    """They would list every study."""
    code, said = world.find("--", asked)
    assert (code, said) == (2, "")


@pytest.mark.parametrize("asked", ["Doe^John", "1..2", "1.2.", "1" * 19, "1.2" * 30, "999"])
def test_words_that_fit_no_study_are_not_repeated(world: World, asked: str) -> None:
    """Somebody may have typed a name. A number may be a sequence, too."""
    code, said = world.find("--", asked)
    assert code == 1
    assert said.startswith("NOT IN THE FEED ")
    assert "Doe" not in said
    if asked != "999":
        assert f"they end at {FIRST + timedelta(hours=2):%Y-%m-%d %H:%M} UTC" in said


def test_a_number_is_an_accession_number_before_it_is_a_sequence(world: World) -> None:
    """Nothing of the kind is in the tables here, so it is entry 2."""
    assert world.find("2")[1].startswith("DELETED ")


def test_nothing_is_rejected(world: World) -> None:
    """And nothing else is asked."""
    assert world.find("--rejected") == (0, "nothing is rejected ")


def test_every_verdict_has_one_of_six_words() -> None:
    """The table in the module's docstring lists all verdicts."""
    table = re.findall(
        r"^\| ([a-z ,]+) \| .* \| (?:yes|no) \|$", str(questions.__doc__), re.MULTILINE
    )
    names = {name for row in table for name in row.split(", ")} - {"verdict"}
    assert names == set(questions.WORDS)
    assert len(set(questions.WORDS.values())) == 6


def test_hours_in_a_row_are_one_command() -> None:
    """A range for hours without a gap, one line for each range, the newest ones."""
    from dicom_assets.commands.find.report import commands_for

    hours = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (0, 1, 2, 5, 7, 9, 11, 13)]
    lines = commands_for(
        Verdict("late", "run again", hours=tuple(hours), select=("series", "study"))
    )
    assert len(lines) == 6
    assert lines[0].endswith("--select series,study --partition 2026-01-01-05:00")
    assert lines[-1] == "# and 1 more, see --json"
    (ranged,) = commands_for(Verdict("late", "run again", hours=tuple(hours[:3])))
    assert ranged.endswith(
        f"{','.join(ALL_TABLES)} --partition-range 2026-01-01-00:00...2026-01-01-02:00"
    )
    assert commands_for(Verdict("in step", "nothing", is_fine=True)) == []
