"""`dicom-assets estimate` against what a load then takes, over sockets."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.commands.estimate import report as estimate
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, START, at, header
from dicom_assets_tests.support.processes import environment
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

PER_HOUR, BATCH = 7, 4
MOST_QUESTIONS = 20


@pytest.fixture
def known(own_service: Service, tmp_path: Path) -> World:
    """Seven instances in each of six hours, none of them changed again; no tables yet."""
    for number in range(6 * PER_HOUR):
        hour, place = divmod(number, PER_HOUR)
        own_service.archive.store(header(number + 1), at=at(hour, 5 * place))
    # One request at a time: none is for a page ahead, of which the estimate knows nothing.
    settings = world(own_service, tmp_path / "tables").settings
    return World(replace(settings, batch_size=BATCH, requests_in_flight=1))


def light(service: Service) -> int:
    """How many requests without headers the service has seen."""
    return len(service.asked) - service.header_requests()


def command(world: World, folder: Path, service: Service, *words: str, **own: str) -> str:
    """What the command says, in this process, which has Dagster loaded."""
    env = environment(folder, service) | {"DICOM_BATCH_SIZE": str(BATCH), "COLUMNS": "200"} | own
    done = CliRunner().invoke(main, ["estimate", *words], env=env)
    overhear(done.output)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_load_takes_the_requests_that_were_estimated(known: World, own_service: Service) -> None:
    """To the request, where the feed has no gaps; the first hour is there already."""
    known.run(FIRST)
    found = estimate.estimate_load(known.settings)
    assert (found.takes.hours, found.takes.entries, found.takes.runs) == (5, 5 * PER_HOUR, 1)
    before = light(own_service), own_service.header_requests()
    known.run(KEYS[1], LAST)
    asked = light(own_service) - before[0], own_service.header_requests() - before[1]
    assert asked == (found.takes.light_requests, found.takes.header_pages)


def test_it_costs_the_service_a_few_light_requests(known: World, own_service: Service) -> None:
    """And one page with headers where that is asked for."""
    found = estimate.estimate_load(known.settings)
    assert (own_service.header_requests(), found.header_page) == (0, None)
    assert light(own_service) < MOST_QUESTIONS
    found = estimate.estimate_load(known.settings, headers=True)
    assert own_service.header_requests() == 1
    assert found.header_page is not None
    assert found.header_page.headers == BATCH
    assert 0 < found.header_page.header_bytes < len(json.dumps(header(1))) * 2


def test_hours_before_the_first_entry_are_counted_and_the_start_is_named(
    known: World, own_service: Service, tmp_path: Path
) -> None:
    """Their number is exact; a start in the first entry's hour has none."""
    early = {"DICOM_START_TIME": (START - timedelta(hours=100)).isoformat()}
    told = json.loads(command(known, tmp_path, own_service, "--json", **early))
    assert (told["before_first"], told["takes"]["hours"]) == (100, 106)
    assert told["takes"]["entries"] == 6 * PER_HOUR
    said = command(known, tmp_path, own_service, **early)
    assert "100 of the hours end before the feed's first entry" in said
    start = said.split("DICOM_START_TIME=")[1].split()[0]
    told = json.loads(command(known, tmp_path, own_service, "--json", DICOM_START_TIME=start))
    assert (told["before_first"], told["takes"]["hours"]) == (0, 6)


def test_nothing_is_missing_after_a_load(
    known: World, own_service: Service, tmp_path: Path
) -> None:
    """Then nothing is estimated."""
    known.run(FIRST, LAST)
    assert "No hour is missing" in command(known, tmp_path, own_service)
    told = json.loads(command(known, tmp_path, own_service, "--json"))
    assert (told["shown"], told["takes"]["light_requests"]) == (6, 0)


def test_an_empty_feed_has_hours_and_no_entries(own_service: Service, tmp_path: Path) -> None:
    """A service that was made today."""
    found = estimate.estimate_load(world(own_service, tmp_path / "tables").settings, headers=True)
    assert (found.first_entry, found.before_first, found.takes.entries) == (None, 6, 0)
    assert found.header_page is None
