"""A PostgreSQL server of its own, on a port of this machine, that asks for a password."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

REMEDY: Final = "no PostgreSQL: `make test-components` installs it"
START_SECONDS: Final = 60.0
PASSWORD: Final = "p@ss/w:rd%"
USER: Final = "dagster"
SERVER_USER: Final = "nobody" if os.name == "posix" and os.geteuid() == 0 else None
"""The server does not start as root."""


def _program(name: str) -> str:
    """The path of one of PostgreSQL's programs. Without it, skipped here and failed in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if path := str(found[-1]) if found else shutil.which(name):
        return path
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(REMEDY)
    pytest.skip(REMEDY)


@dataclass(frozen=True)
class Postgres:
    """A running server with one empty database."""

    port: int

    def environment(self) -> dict[str, str]:
        """The variables that the lines for dagster.yaml name."""
        return {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_DB": "postgres",
            "DAGSTER_PG_USERNAME": USER,
            "DAGSTER_PG_PASSWORD": PASSWORD,
        }

    def count(self, table: str, where: str = "true") -> int:
        """The number of rows of a table of Dagster's."""
        return int(self._ask(f"SELECT count(*) FROM {table} WHERE {where}"))  # noqa: S608 - of tests

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            return self._ask("SELECT 1") == "1"
        except subprocess.CalledProcessError:
            return False

    def _ask(self, sql: str) -> str:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
        return subprocess.run(
            [_program("psql"), *where, "-tAc", sql],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout.strip()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that answers; neither it nor its folder is left afterwards."""
    initdb, program = _program("initdb"), _program("postgres")
    # Not below pytest's folder, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="dicom-assets-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if SERVER_USER:
            for path in (folder, folder / "password"):
                shutil.chown(path, SERVER_USER)
        how = ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", USER, "-E", "UTF8", "--locale=C", *how],
            user=SERVER_USER,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            server = Postgres(probe.getsockname()[1])
        options = (f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1", "fsync=off")
        command = [program, "-D", str(folder / "data"), "-p", str(server.port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *(word for option in options for word in ("-c", option))],
                user=SERVER_USER,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
            try:
                deadline = time.monotonic() + START_SECONDS
                while not server.is_up():
                    assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
                    assert time.monotonic() < deadline, "PostgreSQL does not answer"
                    time.sleep(0.2)
                yield server
            finally:
                process.terminate()  # SIGTERM: it waits for clients, which are gone
                process.wait(START_SECONDS)
