"""One set-up in which all is well, of which each test has its own tables and DAGSTER_HOME."""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING

import pytest
from dagster._core.scheduler.instigation import InstigatorStatus

from dicom_assets.commands import home
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import Faults, breakable, serve
from dicom_assets_tests.adversary.tokens import KnownTokens
from dicom_assets_tests.commands.check import identity as identities
from dicom_assets_tests.commands.check.identity import AUDIENCE, TENANT, Identity
from dicom_assets_tests.commands.check.world import (
    SCHEDULES,
    SENSORS,
    World,
    beat,
    fill,
    follow,
    turn,
)
from dicom_assets_tests.support.tls import Relay, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NUMBERS = count()


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def giver() -> Iterator[Identity]:
    """Who gives tokens."""
    with identities.giving() as identity:
        yield identity


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive with two studies."""
    archive = fill(Archive(tmp_path_factory.mktemp("check") / "archive"), 1, 2)
    yield archive
    archive.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, archive: Archive) -> Path:
    """A folder with tables that have followed, and an instance in which everything is on."""
    folder = tmp_path_factory.mktemp("template")
    with server.start(archive) as running:
        follow(folder / "tables", running.url)
    home.initialise_home(folder / "home")
    for name in (*SCHEDULES, *SENSORS):
        turn(folder / "home", name, InstigatorStatus.DECLARED_IN_CODE)
    return folder


@pytest.fixture
def world(
    template: Path, tmp_path: Path, trusted: Path, archive: Archive, giver: Identity
) -> Iterator[World]:
    """A set-up in which all is well."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    beat(tmp_path / "home")
    tokens, faults = KnownTokens(), Faults()
    giver.give, giver.refusal = tokens.add, ""
    giver.claims = {"aud": AUDIENCE, "tid": TENANT, "jti": str(next(_NUMBERS))}
    application = breakable(archive, faults, tokens=tokens)
    with serve(application) as running, Relay(running.url, trusted) as relay:
        yield World(tmp_path, relay.url, trusted, giver, tokens, faults)
