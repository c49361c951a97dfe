"""A command that cannot work on this machine says so at once, in one line with the remedy."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_assets_tests.support.command import complaint

SYSTEM = Path("/sys/kernel")
FUTURE = {"DICOM_START_TIME": "2999-01-01T00:00:00Z"}


@pytest.fixture
def taken() -> Iterator[str]:
    """A port at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def test_a_taken_port_is_named(tmp_path: Path, taken: str) -> None:
    """With the option that helps, and before anything is made."""
    line = complaint(tmp_path, "dev", "--no-browser", "--port", taken)
    assert f"port {taken}" in line
    assert "--port" in line.partition(taken)[2]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["demo", "dev", "estimate"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, command: str) -> None:
    """Here a file stands where the folder has to be."""
    (tmp_path / "data").touch()
    line = complaint(tmp_path, command)
    assert str(tmp_path / "data") in line
    assert "DAGSTER_HOME" in line


@pytest.mark.skipif(not SYSTEM.is_dir(), reason="only Linux has a folder that root cannot write")
@pytest.mark.parametrize("command", ["demo", "dev"])
def test_a_read_only_folder_is_named(command: str) -> None:
    """By the same words."""
    assert f"{SYSTEM}/data cannot be written" in complaint(SYSTEM, command)


@pytest.mark.parametrize("command", ["demo", "dev"])
def test_a_start_in_the_future_is_named(tmp_path: Path, command: str) -> None:
    """Before an archive is filled, or a page is there that stays empty."""
    line = complaint(tmp_path, command, **FUTURE)
    assert "DICOM_START_TIME 2999-01-01T00:00:00Z" in line
    assert "dicom-assets check" in line
    assert not (tmp_path / "data").exists()
