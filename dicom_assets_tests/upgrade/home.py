"""A release's home and tables in a folder of the test, as if they had been left some minutes ago.

Nothing else is changed: the folders that Dagster noted are not there any more, as after a move to
another environment. `record` says what the release has left behind.
"""

import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from dicom_assets_tests.support.layout import TESTS

RELEASES: Final = TESTS / "data" / "releases"
LEFT: Final = "left"
"""The file that says when the release was stopped, in seconds of the epoch."""
# A moment as Dagster and the alerts write it: seconds of the epoch, or the digits of a date.
_EPOCH: Final = re.compile(r"(?<![\w.-])\d{10}(?:\.\d+)?(?![\w.-])")
_WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?")


def unpack(release: str, folder: Path, *, left: timedelta) -> Path:
    """The folder holds `tables` and `home`, left so long ago; runs start in this process.

    Returns the home.
    """
    with zipfile.ZipFile(RELEASES / f"{release}.zip") as packed:
        packed.extractall(folder)
    home = folder / "home"
    stopped = datetime.fromtimestamp(float((folder / LEFT).read_text(encoding="utf-8")), UTC)
    shift(home, datetime.now(UTC) - left - stopped)
    configuration = home / "dagster.yaml"
    launcher = {"module": "dicom_assets_tests.upgrade.daemon", "class": "InThisProcess"}
    held = yaml.safe_load(configuration.read_text(encoding="utf-8")) | {"run_launcher": launcher}
    configuration.write_text(yaml.safe_dump(held), encoding="utf-8")
    return home


def shift(home: Path, by: timedelta) -> None:
    """Every moment that Dagster has noted in the home is so much later.

    Hours of the history lie years before, and stay.
    """
    for path in sorted(home.rglob("*.db")):
        with closing(sqlite3.connect(path)) as database, database:
            for table, column in _columns(database):
                database.create_function("later", 1, lambda value: _later(value, by))
                # By rowid and only where it changes: most of a home is texts without a moment.
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = later("{column}") '  # noqa: S608 - names of the database's own
                    f'WHERE later("{column}") IS NOT "{column}"'
                )


def _columns(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield each table and column that may hold a moment."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
            if "INT" not in kind.upper():
                yield table, column


def _later(value: Any, by: timedelta) -> Any:  # noqa: ANN401 - what a column holds
    if isinstance(value, float):
        return value + by.total_seconds() if _is_ours(value) else value
    if not isinstance(value, str):
        return value
    return _WRITTEN.sub(lambda m: _date(m[0], by), _EPOCH.sub(lambda m: _seconds(m[0], by), value))


def _is_ours(seconds: float) -> bool:
    """Whether a number is a moment since the first release, and not one of the history's hours."""
    return datetime(2026, 1, 1, tzinfo=UTC).timestamp() < seconds < 2**32


def _seconds(text: str, by: timedelta) -> str:
    return f"{float(text) + by.total_seconds()}" if _is_ours(float(text)) else text


def _date(text: str, by: timedelta) -> str:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    if not _is_ours(moment.timestamp()):
        return text
    # With all digits: Dagster's database reads no shorter form.
    return f"{moment + by:%Y-%m-%d{text[10]}%H:%M:%S.%f}"
