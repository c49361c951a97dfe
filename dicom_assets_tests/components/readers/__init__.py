"""Engines that read the tables and are not ours: each a process in an environment of its own.

Here: how they are asked. `engines` is what runs there. `components/install` makes the environment,
as the folder `readers` of the one that runs the tests, from `requirements.lock`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pytest

from dicom_assets_tests.support.canary import overhear

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = Path(sys.prefix) / "readers"
REMEDY: Final = "no foreign readers: `make test-components` installs them"
END_SECONDS: Final = 30.0

READERS: Final = ("duckdb", "clickhouse", "sail", "kernel", "polars_kernel", "polars")
WITHOUT_QUESTIONS: Final = frozenset({"kernel"})
"""The kernel alone scans; it has no filter that its Python package would show."""
_OURS: Final = frozenset({"arrow", "polars"})
"""They read with the `deltalake` of the environment that runs the tests."""

Answer = list[list[Any]]


@dataclass(frozen=True)
class Question:
    """How many rows are there, by the values of a column, under conditions that all hold.

    A condition is a column, an operator and a value; a moment is told as {"moment": ISO, in UTC}, a
    date as {"day": ISO}.
    """

    by: str
    where: tuple[tuple[str, str, Any], ...] = ()

    def sent(self) -> dict[str, Any]:
        """The question as JSON takes it."""
        return {"by": self.by, "where": self.where}


@dataclass(frozen=True)
class Reader:
    """A running engine."""

    name: str
    folder: Path
    process: subprocess.Popen[str]
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def rows(self, url: str) -> pa.Table:
        """Every column of every row of the table at a URL or path."""
        target = self.folder / "rows.arrow"
        self._say(url=url, rows=str(target))
        with pa.memory_map(str(target)) as source:
            # Copied, because the next answer is written to the same file.
            return pa.concat_tables([pa.ipc.open_file(source).read_all()]).combine_chunks()

    def ask(self, url: str, question: Question) -> Answer:
        """The values and their counts, in order; null comes first."""
        found: Answer = self._say(url=url, question=question.sent())
        return sorted(found, key=lambda pair: (pair[0] is not None, str(pair[0])))

    def version(self) -> str:
        """The engine and its version."""
        return str(self._say(version=True))

    def _say(self, **request: object) -> Any:  # noqa: ANN401 - what was asked for
        given, answers = _pipes(self.process)
        given.write(json.dumps({"options": dict(self.options), **request}) + "\n")
        given.flush()
        line = answers.readline()
        assert line, f"{self.name} is gone: {self.folder / 'log'}"
        answer = json.loads(line)
        assert "error" not in answer, f"{self.name}: {answer['error']}"
        return answer["answer"]


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def interpreter(name: str) -> Path:
    """The Python that has an engine. Without it, tests are skipped here and fail in CI."""
    if name in _OURS:
        return Path(sys.executable)
    folder = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
    found = folder / ("python.exe" if os.name == "nt" else "python")
    if not found.exists() and os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(REMEDY)
    if not found.exists():
        pytest.skip(REMEDY)
    return found


@contextmanager
def running(
    name: str,
    folder: Path,
    options: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Reader]:
    """An engine that answers, with options for a storage; nothing of it is left afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    command: Sequence[str] = [str(interpreter(name)), "-u", str(HERE / "engines.py"), name]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "TZ": "America/St_Johns", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        )
        try:
            yield Reader(name, folder, process, options or {})
        finally:
            _end(process)
    overhear((folder / "log").read_text(encoding="utf-8"))


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in _pipes(process):
        pipe.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
