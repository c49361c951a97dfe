"""The facts about the change feed that need a special service, or one that fails; one test each.

The others are in `test_conformance`. `state_transitions_external.json` is the feed after each of
five writes, worked out from the stored procedures of microsoft/dicom-server (MIT), with Data Lake
storage behind the service.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import (
    Drip,
    Hide,
    Operate,
    Poison,
    Reset,
    Rule,
    ShortLength,
    Status,
    cancelled,
)
from dicom_assets_tests.adversary.tokens import Token, guard_of
from dicom_assets_tests.emulator.test_captured import KEY, read, ticks
from dicom_assets_tests.support.dicom_files import TEN, feed, header, many, raw, sequences, shapes

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

    from dicom_assets_tests.adversary import Faults

STORAGE: Final = "AHDS/ws/dicom/svc"


def without_hash(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries whose file paths end in the file's number: what follows it says nothing."""
    return json.loads(re.sub(r"_\w+\.dcm", ".dcm", json.dumps(entries)))  # type: ignore[no-any-return]


@pytest.fixture
def external(application: Starlette, archive: Archive, tmp_path: Path) -> Archive:
    """An archive with Data Lake storage, served in place of the one without."""
    assert application.state.archive is archive
    application.state.archive = Archive(tmp_path / "external", external_storage=STORAGE)
    served: Archive = application.state.archive
    return served


def test_fact_29_external_storage_has_file_paths(client: httpx.Client, external: Archive) -> None:
    """Paths and states are those of the service's procedures, after each of five writes.

    A Delete has no path until an update of the instance gives one to all its entries.
    """
    steps = [without_hash(step["feed"]) for step in read("state_transitions_external.json")]
    first, second = steps[0]
    external.store(first["metadata"], at=ticks(first["timestamp"]))
    external.store(second["metadata"], at=ticks(second["timestamp"]))
    assert without_hash(feed(client)) == steps[0]

    update, delete, create, whole = (step[-1] for step in steps[1:])
    name = {"00100010": update["metadata"]["00100010"]}
    external.update([update["studyInstanceUid"]], name, at=ticks(update["timestamp"]))
    assert without_hash(feed(client)) == steps[1]
    external.delete(*(delete[part] for part in KEY), at=ticks(delete["timestamp"]))
    assert without_hash(feed(client)) == steps[2]
    external.store(create["metadata"], at=ticks(create["timestamp"]))
    assert without_hash(feed(client)) == steps[3]
    external.delete(whole["studyInstanceUid"], at=ticks(whole["timestamp"]))
    assert without_hash(feed(client)) == steps[4]
    assert list(feed(client)[0])[:3] == ["sequence", "partitionName", "filePath"]
    external.close()


def test_fact_29_an_update_gives_a_path_to_every_entry_of_its_instance(
    client: httpx.Client, external: Archive
) -> None:
    """After delete, create and update the Delete has the new path, too (EndUpdateInstanceV54)."""
    external.store(header(), partition="north")
    external.delete("1.2.1", partition="north")
    external.store(header(), partition="north")
    assert ["filePath" in entry for entry in feed(client)] == [True, False, True]
    external.update(["1.2.1"], {"00081030": {"vr": "LO", "Value": ["new"]}}, partition="north")
    paths = {entry["filePath"] for entry in feed(client)}
    assert len(paths) == 1
    assert re.fullmatch(rf"{STORAGE}/north/3_\w+\.dcm", paths.pop())
    external.close()


def test_fact_33_no_token_is_401_and_no_role_is_403(tmp_path: Path) -> None:
    """Without a token, or with a bad one, 401; without the role to read, 403 and a text."""
    archive = Archive(tmp_path)
    tokens: list[Token | str] = ["good", Token("no role", can_read=False)]
    with (
        server.start(create_application(archive, middleware=[guard_of(tokens)])) as running,
        httpx.Client(base_url=running.url) as client,
    ):
        answers = {
            token: client.get("/v2/changefeed", headers={"authorization": token})
            for token in ("", "Bearer bad", "Basic good", "good", "Bearer no role", "Bearer good")
        }
    archive.close()
    assert [answer.status_code for answer in answers.values()] == [401, 401, 401, 401, 403, 200]
    assert answers["Bearer bad"].headers["www-authenticate"] == "Bearer"
    assert answers["Bearer bad"].content == b""
    assert answers["Bearer no role"].text == "Authorization failed."


@pytest.mark.parametrize("status", [500, 503])
def test_fact_35_a_poisoned_header_fails_every_page_that_holds_it(
    client: httpx.Client, archive: Archive, faults: Faults, status: int
) -> None:
    """The page fails again and again; without metadata it does not; limit=1 isolates the entry."""
    many(archive, 5)
    faults.replace(Poison(frozenset({3}), status))
    assert [client.get("/v2/changefeed").status_code for _ in range(3)] == [status] * 3
    assert client.get("/v1/changefeed").status_code == status
    assert sequences(client, "?includeMetadata=false") == [1, 2, 3, 4, 5]
    singles = [client.get(f"/v2/changefeed?limit=1&offset={place}") for place in range(5)]
    assert [answer.status_code for answer in singles] == [200, 200, status, 200, 200]
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.3")
    assert len(feed(client)) == 6, "a header that is gone poisons nothing"


def test_fact_36_a_late_create_shifts_later_offsets_by_one(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """An entry that becomes visible between two pages: one row comes twice, and one is lost."""
    many(archive, 6)
    faults.replace(Rule(Hide(frozenset({2})), "page", times=1))
    pages = [sequences(client, f"?limit=3&offset={offset}") for offset in (0, 3)]
    assert pages == [[1, 3, 4], [4, 5, 6]]


def test_fact_36_a_late_create_may_be_written_late(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """Its timestamp is an hour before it is there, its sequence the newest."""
    many(archive, 4)
    late = Operate("store", header=header(sop=9), at=TEN - 1)
    faults.replace(Rule(late, "page", first=2, times=1))
    pages = [sequences(client, f"?limit=2&offset={offset}") for offset in (0, 2, 4)]
    assert pages == [[1, 2], [2, 3], [4]]
    assert sequences(client) == [5, 1, 2, 3, 4]


def test_fact_37_the_usual_faults_can_be_injected(
    client: httpx.Client, url: str, archive: Archive, faults: Faults
) -> None:
    """429 with Retry-After, 503, a cut body, a reset, a cancelled request, a slow page."""
    many(archive, 3)
    faults.replace(Status(429, retry_after="7"))
    answer = client.get("/v2/changefeed")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    faults.replace(Status(503))
    assert client.get("/v2/changefeed").status_code == 503
    faults.replace(cancelled())
    answer = client.get("/v2/changefeed")
    assert answer.status_code == 400
    assert not answer.text.startswith("The query parameter")
    faults.replace(Reset())
    assert raw(url, "/v2/changefeed").was_reset
    faults.replace(ShortLength())
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/v2/changefeed")
    faults.replace(Drip(1.0))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/v2/changefeed", timeout=httpx.Timeout(5.0, read=0.2))
    faults.clear()
    assert sequences(client) == [1, 2, 3]


def test_fact_38_creates_may_come_twice_and_with_a_delete(
    client: httpx.Client, archive: Archive
) -> None:
    """A Create for what is live already, and a Delete and a Create that belong together."""
    archive.put(header(), at=TEN)
    archive.put(header(name="A^Two"), at=TEN + 1)
    assert shapes(client) == [(1, "Create", "Replaced"), (2, "Create", "Current")]
    archive.put(header(name="A^Three"), actions=("Delete", "Create"), at=TEN + 2)
    assert shapes(client)[2:] == [(3, "Delete", "Replaced"), (4, "Create", "Current")]
    assert len({entry["timestamp"] for entry in feed(client)[2:]}) == 1
    archive.store(header(sop=2), at=TEN + 3)
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.2", at=TEN + 3)
    assert shapes(client)[4:] == [(5, "Create", "Deleted"), (6, "Delete", "Deleted")]
