"""`dicom-assets emulator`: the service alone, for any client, and files put into it."""

import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import httpx
import pydicom
import pytest
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.command import MODULE, complaint, environment, run, told

SECONDS: Final = 30
FILES: Final = Path(pydicom.__file__).parent / "data" / "test_files"
TWO: Final = (FILES / "CT_small.dcm", FILES / "MR_small.dcm")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _serving(folder: Path, archive: str) -> Iterator[str]:
    """The command serves the archive; yields its address."""
    port = _free_port()
    command = [sys.executable, "-m", MODULE, "emulator", "--port", str(port), "--archive", archive]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            said, errors = process.communicate(timeout=SECONDS)
            overhear(said.decode())
    assert errors == b""


def _wait_for(port: int) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nobody listened within {SECONDS} s")


def _live(folder: Path, archive: str) -> int:
    with closing(sqlite3.connect(folder / archive / "archive.sqlite")) as database:
        query = "SELECT count(*) FROM instance WHERE header IS NOT NULL"
        (count,) = database.execute(query).fetchone()
    return int(count)


def test_it_serves_an_empty_archive_at_once(tmp_path: Path) -> None:
    """A folder that is not there becomes an archive without entries."""
    with _serving(tmp_path, "made/here") as url:
        assert httpx.get(f"{url}/v2/changefeed").json() == []
        assert httpx.get(f"{url}/v2/changefeed/latest").status_code == 204
    assert (tmp_path / "made" / "here").is_dir()


def test_imported_files_are_served_and_checked(tmp_path: Path) -> None:
    """Real files go in by `import`; the feed has them, and `check` prints their hour."""
    said = told(tmp_path, "emulator", "--archive", "own", "import", *map(str, TWO))
    assert "stored 2, refused 0" in said
    assert _live(tmp_path, "own") == 2
    with _serving(tmp_path, "own") as url:
        entries = httpx.get(f"{url}/v2/changefeed").json()
        checked = told(tmp_path, "check", DICOM_SERVICE_URL=url)
    assert [entry["action"].lower() for entry in entries] == ["create", "create"]
    sops = {entry["sopInstanceUid"] for entry in entries}
    assert sops == {str(pydicom.dcmread(path).SOPInstanceUID) for path in TWO}
    hour = entries[0]["timestamp"][:13]
    assert f"DICOM_START_TIME={hour}:00:00Z" in checked.splitlines()
    assert re.search(rf"newest entry: {entries[1]['timestamp'][:19]}Z", checked)
    assert not any(sop in checked + said for sop in sops)


def test_files_that_a_service_refuses_are_counted_by_reason(tmp_path: Path) -> None:
    """What is stored already, and what is no DICOM file, is said and does no harm."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("not DICOM", encoding="utf-8")
    words = ("emulator", "--archive", "own", "import", str(TWO[0]), str(TWO[0]), "folder")
    done = run(tmp_path, *words)
    assert (done.returncode, done.stderr) == (1, ""), "a script learns that files are missing"
    assert "stored 1, refused 2" in done.stdout
    assert "1 already-stored" in done.stdout
    assert f"already-stored: {TWO[0]}" in done.stdout.splitlines()
    assert f"not-part-10: {Path('folder') / 'note.txt'}" in done.stdout.splitlines()
    assert _live(tmp_path, "own") == 1


def test_check_of_an_empty_service(tmp_path: Path) -> None:
    """An empty feed has no first hour, and that is no error."""
    with _serving(tmp_path, "own") as url:
        assert "empty" in told(tmp_path, "check", DICOM_SERVICE_URL=url)


def test_a_port_in_use_is_one_explained_line(tmp_path: Path) -> None:
    """Whoever starts it twice is told so, without a trace."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = complaint(tmp_path, "emulator", "--port", str(port), "--archive", "own")
    assert str(port) in line


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        (("view",), {"DICOM_SERVICE_URL": "http://a.example"}, "loopback"),
        (("emulator", "--archive", "x", "import", "nowhere"), {}, "'nowhere' does not exist"),
        (("emulator", "--port", "many"), {}, "'many' is not a valid integer"),
        (("nothing",), {}, "No such command 'nothing'"),
    ],
    ids=["not loopback", "no file", "no port", "no command"],
)
def test_an_error_is_one_explained_line(
    tmp_path: Path, words: tuple[str, ...], settings: dict[str, str], named: str
) -> None:
    """What is wrong and what would be right, in the last line; no trace, nothing is made."""
    assert named in complaint(tmp_path, *words, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("demo", "dev", "check", "emulator")),
        (("demo",), ("embedded archive",)),
        (("dev",), ("--port", "--host", "127.0.0.1")),
        (("check",), ("DICOM_START_TIME",)),
        (("emulator",), ("--port", "--archive", "import")),
        (("emulator", "import"), ("PATHS",)),
    ],
    ids=lambda words: " ".join(words) or "all",
)
def test_every_command_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    """`--help` names what there is, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*words, "--help"])
    assert (done.exit_code, done.stderr) == (0, "")
    output = done.stdout
    assert [word for word in said if word not in output] == []
    assert list(tmp_path.iterdir()) == []
