"""`dicom-assets dev` as a person starts it: the name of its location, its browser, its words."""

import os
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from dicom_assets_tests.support import dev_server

pytestmark = pytest.mark.timeout(180)
WAIT_SECONDS = 30
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"


@pytest.mark.skipif(os.name == "nt", reason="the browser of the test is a script of the shell")
def test_it_opens_the_asset_graph_of_dicom_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a browser as soon as the page answers, without a warning that somebody could act on."""
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {opened}.part; mv {opened}.part {opened}\n', encoding="utf-8"
    )
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    with dev_server.running(tmp_path, "--browser") as server:
        deadline = time.monotonic() + WAIT_SECONDS
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert opened.read_text(encoding="utf-8").strip() == f"{server.url}/asset-groups"
        answer = httpx.post(f"{server.url}/graphql", json={"query": LOCATIONS}).json()
        entries = answer["data"]["workspaceOrError"]["locationEntries"]
        assert [entry["name"] for entry in entries] == ["dicom_assets"]
    assert "Warning" not in (tmp_path / "dev.log").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for others")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_process_is_left_when_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """Also started as a script's job in the background, whose shell has it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = dev_server.running(tmp_path)
        server = running.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        (dev,) = [p for p in psutil.Process().children() if "dev" in p.cmdline()]
        family = [dev, *dev.children(recursive=True)]
        assert len(family) > 3, "Dagster, its page, its daemon and the code location"
        dev.send_signal(number)
        _, left = psutil.wait_procs(family, timeout=dev_server.END_SECONDS * 2)
        assert left == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
    finally:
        running.__exit__(None, None, None)
