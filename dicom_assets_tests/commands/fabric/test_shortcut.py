"""`dicom-assets fabric shortcut`: what is asked of Fabric, and what is made of its answers."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.commands.fabric import api
from dicom_assets.commands.fabric.shortcuts import LakehouseItem
from dicom_assets.errors import DicomAssetsError, SettingsError
from dicom_assets.settings import Settings
from dicom_assets_tests.commands.fabric.lake import (
    CONNECTION,
    LAKEHOUSE,
    REQUEST_ID,
    SECRET,
    TOKEN,
    WORKSPACE,
    Answer,
    Fabric,
    Running,
    failed,
)
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = "abfss://dicom@account.dfs.core.windows.net/tables"
OTHER = "99999999-9999-4999-8999-999999999999"


class Credential:
    """Gives one token, and keeps the scopes for which it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.scopes: list[tuple[str, ...]] = []
        self._error = error

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Return the token that the Fabric of these tests takes."""
        self.scopes.append(scopes)
        if self._error is not None:
            raise self._error
        return AccessToken(TOKEN, int(time.time() + 3600))


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _quick(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(api, "BACKOFF_SECONDS", 0.001)


class Desk:
    """A Fabric that runs, and a person who asks for shortcuts in its Lakehouse."""

    def __init__(self, fabric: Fabric, address: str) -> None:
        self.fabric = fabric
        self.credential = Credential()
        self.said: list[str] = []
        self._address = address

    def ask(self, *tables: str, root: str = ROOT, prefix: str = "", **asked: Any) -> bool:  # noqa: ANN401
        """Return whether all is as it should be; `said` is what was told."""
        self.said.clear()
        settings = Settings.from_environment({"DICOM_TABLES_URL": root}, complete=False)
        item = LakehouseItem(UUID(WORKSPACE), UUID(LAKEHOUSE), UUID(CONNECTION), prefix)
        usual: dict[str, Any] = {"address": self._address, "credential": self.credential}
        tables = tables or ("instance", "series", "study")
        return api.settle_shortcuts(settings, item, tables, self.said.append, **(usual | asked))

    def error(self, **asked: Any) -> str:  # noqa: ANN401
        """Return what a person is told; no token and nothing of Fabric's own text is in it."""
        with pytest.raises(DicomAssetsError) as raised:
            self.ask(**asked)
        assert raised.value.__cause__ is raised.value.__context__ is None
        assert TOKEN not in str(raised.value)
        assert SECRET not in str(raised.value)
        return str(raised.value)


@pytest.fixture
def desk(trusted: Path) -> Iterator[Desk]:
    """Fabric, with an empty Lakehouse without schemas."""
    fabric = Fabric()
    with Running(fabric, trusted) as running:
        yield Desk(fabric, running.address)


def test_three_tables_get_their_shortcuts(desk: Desk) -> None:
    """Each points to its folder in the container, by the connection that was named."""
    assert desk.ask()
    assert desk.said == [f"Tables/{name}: created" for name in ("instance", "series", "study")]
    assert desk.fabric.shortcuts["Tables/study"] == {
        "path": "Tables",
        "name": "study",
        "target": {
            "type": "AdlsGen2",
            "adlsGen2": {
                "location": "https://account.dfs.core.windows.net",
                "subpath": "/dicom/tables/study",
                "connectionId": CONNECTION,
            },
        },
    }
    assert [one.parameters for one in desk.fabric.posted] == [
        {"shortcutConflictPolicy": "Abort"}
    ] * 3


def test_a_second_time_changes_nothing(desk: Desk) -> None:
    """What is as it should be is looked at, and left."""
    assert desk.ask()
    desk.fabric.asked.clear()
    assert desk.ask()
    assert desk.said == [
        f"Tables/{name}: already there" for name in ("instance", "series", "study")
    ]
    assert Counter(one.method for one in desk.fabric.asked) == {"GET": 4}


def test_the_same_target_in_other_words_is_the_same(desk: Desk) -> None:
    """Fabric may write a slash more or less, and ids in capitals."""
    assert desk.ask("study")
    target = desk.fabric.shortcuts["Tables/study"]["target"]["adlsGen2"]
    target["location"] = "https://Account.dfs.core.windows.net/"
    target["subpath"] = "dicom/tables/study/"
    target["connectionId"] = CONNECTION.upper()
    assert desk.ask("study")
    assert len(desk.fabric.posted) == 1


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        (
            "subpath",
            "/dicom/tables/Study",
            "its subpath is /dicom/tables/Study, /dicom/tables/series is",
        ),
        ("location", "https://other.dfs.core.windows.net", "its location is https://other.dfs"),
        ("connectionId", OTHER, f"its connection is {OTHER}, {CONNECTION} is wanted"),
    ],
)
def test_one_that_differs_is_told_and_left(desk: Desk, part: str, value: str, told: str) -> None:
    """Others may rely on it; the tables after it are done all the same."""
    desk.ask("series")
    desk.fabric.shortcuts["Tables/series"]["target"]["adlsGen2"][part] = value
    assert not desk.ask("series", "study")
    assert desk.said[0] == "Tables/series: differs, and was left as it is (--replace replaces it)"
    assert desk.said[1].strip().startswith(told)
    assert desk.said[2:] == ["Tables/study: created"]
    assert desk.fabric.shortcuts["Tables/series"]["target"]["adlsGen2"][part] == value


def test_one_that_differs_is_replaced_when_asked(desk: Desk) -> None:
    """That one only, by the policy that says so."""
    desk.ask("series", "study")
    desk.fabric.shortcuts["Tables/series"]["target"]["adlsGen2"]["connectionId"] = OTHER
    desk.fabric.asked.clear()
    assert desk.ask("series", "study", replace=True)
    assert desk.said == ["Tables/series: replaced", "Tables/study: already there"]
    (post,) = desk.fabric.posted
    assert post.parameters == {"shortcutConflictPolicy": "CreateOrOverwrite"}
    now = desk.fabric.shortcuts["Tables/series"]["target"]["adlsGen2"]
    assert now["connectionId"] == CONNECTION


@pytest.mark.parametrize("kind", ["OneLake", "AdlsGen2"])
def test_a_target_that_is_of_another_kind_or_hidden_differs(desk: Desk, kind: str) -> None:
    """Fabric tells the kind alone to whom the target is closed."""
    desk.fabric.shortcuts["Tables/study"] = {
        "path": "Tables",
        "name": "study",
        "target": {"type": kind},
    }
    assert not desk.ask("study")
    assert f"its target is {kind}, or may not be seen" in desk.said[1]
    assert not desk.fabric.posted


def test_in_a_lakehouse_with_schemas_tables_lie_in_one(desk: Desk) -> None:
    """In the default one, or in the one that is named: in Tables itself they would be schemas."""
    desk.fabric.schema = "dbo"
    assert desk.ask("study")
    assert desk.ask("study", schema="radiology")
    assert set(desk.fabric.shortcuts) == {"Tables/dbo/study", "Tables/radiology/study"}


def test_a_schema_that_is_named_needs_no_telling(desk: Desk) -> None:
    """Fabric does not tell of every Lakehouse that it has schemas; it refuses where it has none."""
    assert desk.ask("study", schema="radiology")
    assert set(desk.fabric.shortcuts) == {"Tables/radiology/study"}
    desk.fabric.script["POST"] = [failed(400, "InvalidPath")]
    assert "A Lakehouse without schemas takes no --schema" in desk.error(schema="clinic")


def test_names_may_have_a_prefix_and_tables_other_paths(desk: Desk) -> None:
    """The target keeps the table's own folder."""
    assert desk.ask("sync", prefix="dicom_", root=f"{ROOT}/clinic-1/")
    found = desk.fabric.shortcuts["Tables/dicom_sync"]["target"]["adlsGen2"]
    assert found["subpath"] == "/dicom/tables/clinic-1/sync"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"prefix": "a-"}, "--prefix: a letter, then letters"),
        ({"schema": "a/b"}, "--schema: a letter, then letters"),
        ({"root": "abfss://w@onelake.dfs.fabric.microsoft.com/a.Lakehouse/Tables"}, "in OneLake"),
        ({"root": "az://dicom/tables"}, "needs DICOM_TABLES_URL as abfss://"),
        ({"root": "data/dicom"}, "needs DICOM_TABLES_URL as abfss://"),
        ({"root": f"{ROOT}/day=1"}, "a character that a shortcut's target may not have"),
    ],
)
def test_what_fabric_could_not_take_is_refused_before_it_is_asked(
    desk: Desk, asked: dict[str, str], told: str
) -> None:
    """No token is taken for it either."""
    with pytest.raises(SettingsError, match=told):
        desk.ask(**asked)
    assert desk.fabric.asked == []
    assert desk.credential.scopes == []


def test_a_table_that_is_none_is_refused(desk: Desk) -> None:
    """By the names that there are."""
    with pytest.raises(SettingsError, match="--table: one of change, sync, instance"):
        desk.ask("patient")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "InvalidInput", "Storage Blob Data Reader"),
        (401, "TokenExpired", "the identity of Fabric's tenant"),
        (403, "InsufficientPrivileges", "the role Contributor in the workspace"),
        (404, "ItemNotFound", "ids that this identity can see"),
        (409, "EntityConflict", "something that is no shortcut of this name"),
        (418, "Teapot", "documentation of the API"),
    ],
)
def test_a_refusal_says_what_to_do(desk: Desk, status: int, code: str, told: str) -> None:
    """At once, with Fabric's code and the id that its support asks for."""
    desk.fabric.script["POST"] = [failed(status, code)]
    error = desk.error()
    assert error.startswith(f"Fabric answered {status} ")
    assert f"({code}; request {REQUEST_ID}), for the shortcut Tables/instance: " in error
    assert told in error
    assert len(desk.fabric.posted) == 1


def test_a_lakehouse_that_is_not_there_is_no_missing_shortcut(desk: Desk) -> None:
    """404 of the Lakehouse is an error, 404 of a shortcut is an answer."""
    desk.fabric.script["GET"] = [failed(404, "ItemNotFound")]
    assert "for the Lakehouse: are --workspace, --lakehouse" in desk.error()
    assert not desk.fabric.posted


def test_a_table_of_that_name_is_not_touched(desk: Desk) -> None:
    """It is no shortcut, and not ours."""
    desk.fabric.tables.add("Tables/series")
    assert "for the shortcut Tables/series: something that is no shortcut" in desk.error()
    assert set(desk.fabric.shortcuts) == {"Tables/instance"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(desk: Desk, status: int) -> None:
    """For reading as for making."""
    desk.fabric.script["GET"] = [failed(status, "Busy")] * 2
    desk.fabric.script["POST"] = [failed(status, "Busy")] * 2
    assert desk.ask("study")
    assert list(desk.fabric.shortcuts) == ["Tables/study"]
    assert len(desk.fabric.posted) == 3


def test_retry_after_is_waited_for(desk: Desk) -> None:
    """429 says how long; asking sooner would only make it longer."""
    desk.fabric.script["GET"] = [failed(429, "RequestBlocked", Retry_After="1")]
    began = time.monotonic()
    assert desk.ask("study")
    assert time.monotonic() - began >= 1.0


def test_a_pause_that_is_too_long_is_told_at_once(desk: Desk) -> None:
    """Nobody sits at a terminal for an hour."""
    desk.fabric.script["GET"] = [failed(429, "RequestBlocked", Retry_After="3000")]
    assert "too many requests at once: run again later" in desk.error()
    assert len(desk.fabric.asked) == 1


def test_trouble_that_stays_is_red_in_time(desk: Desk) -> None:
    """The last answer is told."""
    desk.fabric.script["GET"] = [failed(503, "Busy")] * 1000
    assert "503 Service Unavailable" in desk.error(retry_seconds=0.3)
    assert len(desk.fabric.asked) > 1


@pytest.mark.parametrize("said", [Answer(0, is_done=True), Answer(503, {}, is_done=True)])
def test_a_lost_answer_makes_no_second_shortcut(desk: Desk, said: Answer) -> None:
    """It was made, and the answer was lost: the second attempt finds its name taken, by itself."""
    desk.fabric.script["POST"] = [said]
    assert desk.ask("study")
    assert desk.said == ["Tables/study: already there"]
    assert list(desk.fabric.shortcuts) == ["Tables/study"]


@pytest.mark.parametrize("body", ["<html>sign in</html>", [], {"path": "Tables"}, ""])
def test_an_answer_of_another_form_is_no_answer(desk: Desk, body: object) -> None:
    """A proxy's page is not taken for a Lakehouse."""
    desk.fabric.script["GET"] = [Answer(200, {"properties": {}}), Answer(200, body)]
    assert "has not the form that its API describes" in desk.error()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_carries_the_token_nowhere(desk: Desk, trusted: Path, status: int) -> None:
    """To another port, which is another origin: nobody there is asked."""
    other = Fabric()
    with Running(other, trusted) as elsewhere:
        headers = {"Location": f"{elsewhere.address}/workspaces"}
        desk.fabric.script["GET"] = [Answer(status, {}, headers)]
        assert "redirects are not followed" in desk.error()
    assert other.asked == []


def test_one_token_for_fabric_signs_every_request(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for once, for Fabric's scope, and is in no log."""
    caplog.set_level(logging.DEBUG)
    assert desk.ask()
    assert desk.credential.scopes == [("https://api.fabric.microsoft.com/.default",)]
    assert {one.token for one in desk.fabric.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "error", [ClientAuthenticationError(SECRET), ValueError(SECRET), OSError(SECRET)]
)
def test_no_identity_says_what_to_do(desk: Desk, error: Exception) -> None:
    """By classes only: Azure's text may name tenants, users and addresses."""
    desk.credential = Credential(error)
    assert f"Credential gave no token for Fabric ({type(error).__name__})" in desk.error()
    assert desk.fabric.asked == []


def test_a_certificate_that_is_not_trusted_names_the_setting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is not sent."""
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "SSL_CERT_FILE names the authorities" in desk.error(retry_seconds=0.0)
    assert desk.fabric.asked == []


WORDS = ["fabric", "shortcut", "--workspace", WORKSPACE, "--lakehouse", LAKEHOUSE]


def test_a_dry_run_shows_the_requests_and_sends_nothing(
    desk: Desk, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it shows is what a run posts; no token is asked for, and no connection is opened."""
    monkeypatch.setattr(api, "settle_shortcuts", None)
    words = [*WORDS, "--connection", CONNECTION, "--dry-run"]
    done = CliRunner().invoke(main, words, env={"DICOM_TABLES_URL": ROOT})
    overhear(done.output)
    assert (done.exit_code, done.stderr) == (0, "")
    assert desk.fabric.asked == []
    monkeypatch.undo()
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert desk.ask()
    assert _shown(done.stdout) == [one.body for one in desk.fabric.posted]
    assert done.stdout.count("?shortcutConflictPolicy=Abort") == 3


def _shown(text: str) -> list[Any]:
    """The bodies in what a dry run prints."""
    decoder, found = json.JSONDecoder(), []
    while (start := text.find("{")) >= 0:
        body, end = decoder.raw_decode(text[start:])
        found.append(body)
        text = text[start + end :]
    return found


def test_the_command_ends_with_one_when_something_differs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For scripts; and with our own words when Fabric refuses."""
    settle = partial(api.settle_shortcuts, address=desk._address, credential=desk.credential)
    monkeypatch.setattr(api, "settle_shortcuts", settle)
    words = [*WORDS, "--connection", CONNECTION, "--table", "study"]
    codes = []
    for connection in (CONNECTION, CONNECTION, OTHER):
        words[7] = connection
        codes.append(CliRunner().invoke(main, words, env={"DICOM_TABLES_URL": ROOT}).exit_code)
    assert codes == [0, 0, 1]
    desk.fabric.script["GET"] = [failed(403, "InsufficientPrivileges")]
    done = CliRunner().invoke(main, words, env={"DICOM_TABLES_URL": ROOT})
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: Fabric answered 403 Forbidden (InsufficientPrivileges;")


@pytest.mark.parametrize("option", ["--workspace", "--lakehouse", "--connection"])
def test_an_id_that_is_none_is_refused(option: str) -> None:
    """So that it cannot lead anywhere else in the API."""
    given = {"--workspace": WORKSPACE, "--lakehouse": LAKEHOUSE, "--connection": CONNECTION}
    words = [word for pair in (given | {option: "../admin"}).items() for word in pair]
    done = CliRunner().invoke(main, ["fabric", "shortcut", *words])
    assert done.exit_code == 2
    assert "is not a valid UUID" in done.stderr
