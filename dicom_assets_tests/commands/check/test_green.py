"""`dicom-assets check` where all is well, and where nothing is there yet."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from dicom_assets.tables.catalogue import TABLES
from dicom_assets_tests.commands.check.identity import AUDIENCE, CLIENT, TENANT
from dicom_assets_tests.commands.check.world import SCHEDULES, SENSORS, START_TIME, Told, World, run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


ABSENT = {*(table.name for table in TABLES), "schema"}


def test_every_line_is_ok_where_all_is_well(world: World) -> None:
    """Each look looks, and each says what it found; nothing is left behind."""
    before = sorted(world.tables.rglob("*"))
    told = world.check()
    found = {name: line["found"] for name, line in told.lines.items()}
    # The certificate of the test ends tomorrow, which somebody should know.
    assert told.named("warn") == {"TLS"}
    assert told.named("ok") | {"TLS"} == told.lines.keys()
    assert (told.code, told.whole["is_well"]) == (0, True)
    assert told.whole["DICOM_START_TIME"] == START_TIME
    assert found["token"].startswith("from DefaultAzureCredential (ManagedIdentityCredential): ")
    claims = (f"aud {AUDIENCE}", f"appid {CLIENT}", f"oid {CLIENT}", f"tid {TENANT}", "exp 20")
    assert [claim for claim in claims if claim not in found["token"]] == []
    assert found["API version"] == "v2; the service names 1, 2"
    assert re.match(r"TLSv1\.\d, its certificate is trusted and valid until 20", found["TLS"])
    assert found["instance"] == "version 1, rows 2, files 1"
    assert set(SCHEDULES) | set(SENSORS) <= found.keys()
    assert sorted(world.tables.rglob("*")) == before


def test_the_terminal_shows_the_same(world: World) -> None:
    """In groups; last, on a line of its own, what DICOM_START_TIME can be set to."""
    code, said = run(**world.settings(COLUMNS="200"))
    lines = said.splitlines()
    assert code == 0
    assert [line for line in lines if line.isalpha()] == [
        "settings",
        "service",
        "storage",
        "Dagster",
    ]
    assert lines[-1] == f"DICOM_START_TIME={START_TIME}"
    assert re.fullmatch(r"\d+ ok, 1 warn, 0 red, 0 not looked", lines[-2])


def test_what_is_looked_at_is_said_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits, and a look may take a while; on stderr, so that JSON stays JSON."""
    told: list[str] = []
    monkeypatch.setattr("rich.status.Status.update", lambda _, text: told.append(text))
    assert world.check().code == 0
    assert told[0] == "settings: settings"
    assert {"service: token", "storage: access", "Dagster: daemon"} <= set(told)


def test_with_the_service_only_it_finds_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use, before there is anything else."""
    monkeypatch.chdir(world.folder / "home")
    told = world.check("DICOM_START_TIME", "DICOM_TABLES_URL", "DAGSTER_HOME")
    assert told.whole["DICOM_START_TIME"] == START_TIME
    assert told.lines["feed"]["state"] == "ok"
    assert (told.code, told.named("not looked")) == (0, {"Dagster", "archive", *ABSENT})


def test_where_nothing_is_there_yet_nothing_is_red_and_nothing_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop before the first start: the embedded service, no tables, no instance."""
    monkeypatch.chdir(tmp_path)
    code, said = run("--json")
    told = Told(code, json.loads(said))
    assert (code, told.named("red"), told.named("warn")) == (0, set(), set())
    assert told.named("not looked") == {"service", "Dagster", *ABSENT}
    assert "embedded" in told.lines["service"]["found"]
    assert f"{tmp_path / 'data' / 'dagster'}" in told.lines["Dagster"]["found"]
    assert list(tmp_path.iterdir()) == []
