"""Starting and stopping the emulator, in a thread and in the foreground."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive, instance_key
from dicom_assets_tests.support.dicom_files import header

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


def test_an_archive_is_served_at_once_and_until_closed(tmp_path: Path) -> None:
    """The first request is answered without a retry; after close nobody listens."""
    archive = Archive(tmp_path)
    with server.start(archive) as running:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", running.url)
        assert httpx.get(f"{running.url}/v2/changefeed").text == "[]"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/v2/changefeed")
    archive.close()


def test_an_application_may_be_wrapped_first(tmp_path: Path) -> None:
    """Any ASGI application is served: the place where faults will be put."""

    async def teapot(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": tmp_path.name.encode()})

    with server.start(teapot) as running:
        answer = httpx.get(running.url)
    assert (answer.status_code, answer.text) == (418, tmp_path.name)


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    """A port that is taken raises where it was asked for, not in a thread."""
    archive = Archive(tmp_path)
    with server.start(archive) as running, pytest.raises(OSError, match="in use"):
        server.start(archive, port=int(running.url.rpartition(":")[2]))
    archive.close()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """A closed server may be closed again, and another may start from the same archive."""
    archive = Archive(tmp_path)
    running = server.start(archive)
    running.close()
    running.close()
    with server.start(archive) as again:
        assert httpx.get(f"{again.url}/v2/changefeed/latest").status_code == 204
    archive.close()


def test_it_leaves_no_thread_behind(tmp_path: Path) -> None:
    """The server's thread ends with it."""
    archive = Archive(tmp_path)
    with server.start(archive):
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("dicom-emulator") >= 1
    before = names.count("dicom-emulator")
    after = [thread.name for thread in threading.enumerate()].count("dicom-emulator")
    assert after == before - 1
    archive.close()


def test_the_start_page_shows_what_the_archive_holds(tmp_path: Path) -> None:
    """Live instances only, and every entry; the numbers are those of the moment."""
    with closing(Archive(tmp_path)) as archive, server.start(archive) as running:
        assert "0 studies, 0 series and 0 instances" in httpx.get(running.url).text
        for study, sop in ((1, 1), (1, 2), (2, 3)):
            archive.store(header(study, 1, sop))
        page = httpx.get(running.url).text
        assert "It holds 2 studies, 2 series and 3 instances." in page
        assert "The change feed has 3 entries." in page
        archive.delete(instance_key(header(2, 1, 3)).study)
        page = httpx.get(running.url).text
        assert "It holds 1 studies, 1 series and 2 instances." in page
        assert "The change feed has 4 entries." in page
        assert instance_key(header(1, 1, 1)).study not in page
