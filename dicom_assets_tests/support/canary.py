"""A pytest plugin: nothing that a test leaves outside the tables holds a patient's value or a UID.

Searched after each test: what it said on stdout, stderr and in logs, what the processes that it
started said (`overhear`), and what Dagster wrote to its databases in this process, to those in
memory too. Searched when the session ends, by each worker for itself: every file of every
DAGSTER_HOME in pytest's folder. A test that shows patients on purpose is marked
`shows_patients(reason)`, which is about what it says, never about a home. What a test takes out of
`capfd` or `capsys` is its own to search.

What is found is made up: `MARK` stands in what archives of tests hold, UIDs of tests are long, and
pydicom's files have their own names. Not here: what the project does about it.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import zlib
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

MARK: Final = "PHI-"
EXEMPT: Final = "shows_patients"
# The patient and the doctor of the page that was captured from a service.
_CAPTURED: Final = ("Anony Mous", "Doctor Doc")
_PATIENTS: Final = ("00100010", "00100020", "00080050")
# Nobody writes it by accident: long, and either in no Latin script or with letters and others.
_TELLING: Final = re.compile(r"(?=.{6})(?=.*[^\W\d])(.*[\W\d]|.*[^\x00-\x7f])")
# Six numbers at least, so that no version and no address is one; the standard's own are no secret.
_UID: Final = re.compile(rb"\d+(?:\.\d+){5,}")
_STANDARD: Final = b"1.2.840.10008."
_ZLIB: Final = b"\x78\x9c"
_SQLITE: Final = b"SQLite format 3\0"
_AROUND: Final = 60
_SHOWN: Final = 20
_RIGHTLY: Final = {"_delta_log", "archive.sqlite"}
"""A folder that holds one of them is a table or an archive: there the values belong."""
_HOMES: Final = {"history", "storage", "schedules"}


# --- what is searched for -------------------------------------------------------------------------


@cache
def needles() -> tuple[bytes, ...]:
    """Every text that must not be found, as UTF-8 and as it is escaped in JSON."""
    texts = {MARK, *_CAPTURED, *_sample_patients()}
    escaped = {json.dumps(text)[1:-1] for text in texts}
    return tuple(sorted(text.encode() for text in texts | escaped))


def _sample_patients() -> Iterator[str]:
    """Names, IDs and accession numbers of the embedded archive that are telling."""
    for header in _sample_headers():
        for tag in _PATIENTS:
            for value in header.get(tag, {}).get("Value", ()):
                names = value.values() if isinstance(value, dict) else [value]
                yield from (name for name in names if _TELLING.match(str(name)))


def _sample_headers() -> Iterator[Mapping[str, Any]]:
    from dicom_assets.emulator import sample
    from dicom_assets.emulator.headers import Refused, parse_file

    yield from sample._CORRECTIONS
    for file in sample.pydicom_files():
        try:
            yield parse_file(file.read_bytes()).header
        except Refused:
            continue


def hits(content: str | bytes) -> list[str]:
    """What of patients stands in the content, each with what is around it."""
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    held = [needle for needle in needles() if needle in raw]
    places = [found.start() for needle in held for found in re.finditer(re.escape(needle), raw)]
    places += [uid.start() for uid in _UID.finditer(raw) if _STANDARD not in uid[0]]
    around = (raw[max(0, place - _AROUND) : place + _AROUND] for place in places)
    return [part.decode(errors="replace") for part in around]


# --- where it is searched -------------------------------------------------------------------------


def homes(folder: Path) -> Iterator[Path]:
    """Every folder in which a Dagster instance keeps what it keeps."""
    for path, folders, files in _walk(folder):
        if _HOMES.intersection(folders) or ("dagster.yaml" in files and "__init__.py" not in files):
            yield path
            folders.clear()


def hits_in_home(home: Path) -> list[str]:
    """What of patients stands in any file of the home, deleted rows and write-ahead logs too."""
    files = [path / name for path, _, names in _walk(home) for name in names]
    contents = {file: file.read_bytes() for file in files}
    found = [f"{file}: {hit}" for file, content in contents.items() for hit in hits(content)]
    databases = [file for file, content in contents.items() if content.startswith(_SQLITE)]
    return found + [f"{file}: {hit}" for file in databases for hit in hits(_values(file))]


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, tables and archives left out."""
    for path, folders, files in os.walk(folder):
        if _RIGHTLY.isdisjoint((*folders, *files)):
            yield Path(path), folders, files
        else:
            folders.clear()


def _values(database: Path) -> bytes:
    """All values of all rows: a long one lies in its file in pieces, and some are compressed."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        queries = [f'SELECT * FROM "{name.decode()}"' for (name,) in names]  # noqa: S608 - its own names
        rows = (row for query in queries for row in connection.execute(query))
        return _joined(value for row in rows for value in row)


def _joined(values: Iterable[object]) -> bytes:
    kinds = str | bytes | memoryview
    return b"\n".join(_plain(value) for value in values if isinstance(value, kinds))


def _plain(value: str | bytes | memoryview) -> bytes:
    """The value as bytes; Dagster's snapshots of definitions are compressed."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    raw = bytes(value)
    return zlib.decompress(raw) if raw.startswith(_ZLIB) else raw


# --- how pytest comes to search -------------------------------------------------------------------

_written: list[str] = []
"""What of patients was on its way to a database, since the last look."""


def overhear(*said: str) -> None:
    """What a process said counts as said by the test."""
    sys.stdout.write("\n".join(said))


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known, and so `--strict-markers` takes it."""
    config.addinivalue_line("markers", f"{EXEMPT}(reason): what the test says may show patients")


def pytest_collection_finish() -> None:
    """Whatever is written to a database by way of SQLAlchemy, as Dagster does, is looked at."""
    if "dagster" in sys.modules:  # not where only unit tests run
        from sqlalchemy import Engine, event

        event.listen(Engine, "before_cursor_execute", _look)


def _look(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:  # noqa: ANN401 - theirs
    rows = parameters if isinstance(parameters, list) else [parameters]
    values = (row.values() if isinstance(row, dict) else row for row in rows)
    found = hits(_joined(value for row in values for value in row))
    what = " ".join(statement.split()[:3])
    _written.extend(f"{what}: {hit}" for hit in found)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test in whose output something is found has failed; one that failed says so already."""
    report = yield
    found = [*_said(report), *(f"a database: {hit}" for hit in _written)]
    _written.clear()
    if found and not report.failed and not item.get_closest_marker(EXEMPT):
        report.outcome = "failed"
        report.longrepr = _told(f"{item.nodeid} leaves values of patients or UIDs in", found)
    return report


def _said(report: pytest.TestReport) -> list[str]:
    """What is found in the output of this phase; earlier phases have been looked at."""
    sections = [(n, text) for n, text in report.sections if n.endswith(f" {report.when}")]
    return [f"{name}: {hit}" for name, text in sections for hit in hits(text)]


def _told(what: str, found: list[str]) -> str:
    return "\n".join([f"{what} ({len(found)} times; see {__name__}):", *map(repr, found[:_SHOWN])])


@pytest.fixture(scope="session", autouse=True)
def _silent_homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the end no DAGSTER_HOME of the session holds anything of a patient."""
    yield
    folder = tmp_path_factory.getbasetemp()
    found = [hit for home in homes(folder) for hit in hits_in_home(home)]
    if found:
        pytest.fail(_told("DAGSTER_HOMEs hold values of patients or UIDs", found), pytrace=False)
