"""A pytest plugin: a test fails that leaves a patient's value or a UID outside the tables.

After each test it searches stdout, stderr, logs, the output of child processes (`overhear`) and the
statements to Dagster's databases, at the end of the session every file of every DAGSTER_HOME in
pytest's folder. A test whose output may show patients is marked `shows_patients(reason)`; a home
may never. A test that reads `capfd` or `capsys` has to search that itself.

All values are made up: `MARK` is in the archives of tests, UIDs of tests are long, and pydicom's
files have their own names.
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
_PATIENT_TAGS: Final = ("00100010", "00100020", "00080050")
# Long, and with letters and others or in no Latin script: nobody writes it by accident.
_TELLING: Final = re.compile(r"(?=.{6})(?=.*[^\W\d])(.*[\W\d]|.*[^\x00-\x7f])")
# Six numbers at least, so that no version and no address is one. The standard's own are no secret.
# It begins where digits begin, and gives none back: else a long number costs its square.
_UID: Final = re.compile(rb"(?<!\d)\d++(?:\.\d++){5,}")
_STANDARD: Final = b"1.2.840.10008."
_RIGHTLY: Final = {"_delta_log", "archive.sqlite"}
"""A folder that holds one of them is a table or an archive: there the values belong."""
_HOME: Final = {"history", "storage", "schedules"}


@cache
def needles() -> tuple[bytes, ...]:
    """Return every text that must not be left, as UTF-8 and as JSON escapes it."""
    from dicom_assets.emulator import sample
    from dicom_assets.emulator.headers import Refused, parse_file

    headers: list[Mapping[str, Any]] = [*sample._CORRECTIONS]
    for file in sample.pydicom_files():
        try:
            headers.append(parse_file(file.read_bytes()).header)
        except Refused:
            continue
    values = [v for h in headers for tag in _PATIENT_TAGS for v in h.get(tag, {}).get("Value", ())]
    names = [name for v in values for name in (v.values() if isinstance(v, dict) else [v])]
    texts = {MARK, *_CAPTURED, *(name for name in names if _TELLING.match(str(name)))}
    return tuple(sorted(t.encode() for text in texts for t in {text, json.dumps(text)[1:-1]}))


def hits(content: str | bytes) -> list[str]:
    """Return each value of a patient in the content, with its surroundings."""
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    known = [needle for needle in needles() if needle in raw]
    places = [match.start() for needle in known for match in re.finditer(re.escape(needle), raw)]
    places += [uid.start() for uid in _UID.finditer(raw) if _STANDARD not in uid[0]]
    return [raw[max(0, place - 60) : place + 60].decode(errors="replace") for place in places]


def homes(folder: Path) -> Iterator[Path]:
    """Yield every DAGSTER_HOME below the folder."""
    for path, folders, files in _walk(folder):
        if _HOME.intersection(folders) or ("dagster.yaml" in files and "__init__.py" not in files):
            yield path
            folders.clear()


def hits_in_home(home: Path) -> list[str]:
    """Return each value of a patient in any file of the home, also in write-ahead logs."""
    hits_by_file = []
    for file in [path / name for path, _, names in _walk(home) for name in names]:
        try:
            content = file.read_bytes()
        except FileNotFoundError:  # a write-ahead log, when the last process left its database
            continue
        is_database = content.startswith(b"SQLite format 3\0")
        contents = [content, _values(file)] if is_database else [content]
        hits_by_file += [f"{file}: {hit}" for one in contents for hit in hits(one)]
    return hits_by_file


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk as `os.walk` does, without tables and archives."""
    for path, folders, files in os.walk(folder):
        if _RIGHTLY.isdisjoint((*folders, *files)):
            yield Path(path), folders, files
        else:
            folders.clear()


def _values(database: Path) -> bytes:
    """Return all values of all rows, because a long one lies in its file in pieces."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        queries = [f'SELECT * FROM "{name.decode()}"' for (name,) in names]  # noqa: S608 - its own names
        return _joined(
            value for query in queries for row in connection.execute(query) for value in row
        )


def _joined(values: Iterable[object]) -> bytes:
    """Return texts and bytes in one, unpacked: Dagster compresses snapshots of definitions."""
    raw = [v.encode(errors="surrogatepass") if isinstance(v, str) else v for v in values]
    kept = [bytes(v) for v in raw if isinstance(v, bytes | memoryview)]
    return b"\n".join(zlib.decompress(v) if v.startswith(b"\x78\x9c") else v for v in kept)


# --- hooks of pytest ------------------------------------------------------------------------------

_written: list[str] = []
"""Hits in statements to databases since the last report."""


def overhear(*outputs: str) -> None:
    """Count the output of a process as output of the test."""
    sys.stdout.write("\n".join(outputs))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that `--strict-markers` takes it."""
    config.addinivalue_line("markers", f"{EXEMPT}(reason): the output may show patients")


def pytest_collection_finish() -> None:
    """Listen to all statements of SQLAlchemy, by which Dagster writes."""
    if "dagster" in sys.modules:  # not where only unit tests run
        from sqlalchemy import Engine, event

        event.listen(Engine, "before_cursor_execute", _search_statement)


def _search_statement(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:  # noqa: ANN401 - theirs
    rows = parameters if isinstance(parameters, list) else [parameters]
    values = (row.values() if isinstance(row, dict) else row for row in rows)
    _written.extend(
        f"{statement[:30]!r}: {hit}" for hit in hits(_joined(v for r in values for v in r))
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a phase of a test whose output has hits, unless it failed or is exempt."""
    report = yield
    # Earlier phases have been searched.
    outputs = [(n, text) for n, text in report.sections if n.endswith(f" {report.when}")]
    leaks = [f"{name}: {hit}" for name, text in outputs for hit in hits(text)]
    leaks += [f"a database: {hit}" for hit in _written]
    _written.clear()
    if leaks and not report.failed and not item.get_closest_marker(EXEMPT):
        report.outcome = "failed"
        report.longrepr = _message(f"{item.nodeid} leaves values of patients or UIDs in", leaks)
    return report


def _message(subject: str, leaks: list[str]) -> str:
    return "\n".join([f"{subject} ({len(leaks)} times; see {__name__}):", *map(repr, leaks[:20])])


@pytest.fixture(scope="session", autouse=True)
def _silent_homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail at the end of the session if a DAGSTER_HOME has hits."""
    yield
    leaks = [hit for home in homes(tmp_path_factory.getbasetemp()) for hit in hits_in_home(home)]
    if leaks:
        pytest.fail(_message("DAGSTER_HOMEs hold values of patients or UIDs", leaks), pytrace=False)
