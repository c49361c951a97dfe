"""Apache Spark itself, with its default settings, reads every column of every table.

Its reader refuses a whole column for one day before 1582-10-15 or one moment before 1900, unless
the file says who wrote it. Headers hold such values.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicom_assets.emulator.archive import Archive, InstanceKey
from dicom_assets.schema import INSTANCE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import (
    FIRST,
    KEYS,
    at,
    header,
    renamed,
    series_uid,
    sop_uid,
    study_uid,
)
from dicom_assets_tests.support.watched_service import serving
from dicom_assets_tests.support.world import World, world

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE: Final = Path(__file__).parent / "spark"
ENVIRONMENT: Final = Path(sys.prefix) / "spark"
REMEDY: Final = "no Spark, or no Java 17: `make test-components` installs both"
SECONDS: Final = 240
DATES: Final = ("00010101", "15821014", "18991231", "19000101", "00000000", "99991231", "20240229")
OFFSETS: Final = ("+0000", "+0100", "-0330")
DAYS: Final = ("00080020", "00080021", "00080022", "00080023", "00100030", "00080012")
"""Of study, series, acquisition and content; the birth date; the creation, a column of a file."""
TIMES: Final = ("00080030", "00080031", "00080032", "00080033")
COLUMNS: Final = """
[[columns]]
path = "InstanceCreationDate"
type = "date32"

[[columns]]
path = "FrameReferenceDateTime"
type = "timestamp"

[[columns]]
path = "InstanceCreationDate"
level = "series"
aggregate = "min"
name = "leastCreated"

[[columns]]
path = "FrameReferenceDateTime"
level = "study"
aggregate = "max"
name = "greatestReferred"
"""

pytestmark = [
    pytest.mark.timeout(300),  # Spark starts, and reads two hundred columns one by one
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


def hostile(study: int, date: str, offset: str, sop: int) -> dict[str, Any]:
    """The header of an instance in which every date is this one."""
    return {
        **header(study, sop=sop),
        **{tag: {"vr": "DA", "Value": [date]} for tag in DAYS},
        **{tag: {"vr": "TM", "Value": ["000000"]} for tag in TIMES},
        "00080201": {"vr": "SH", "Value": [offset]},
        "0008002A": {"vr": "DT", "Value": [f"{date}000000{offset}"]},
        "00189151": {"vr": "DT", "Value": [f"{date}235959.999999{offset}"]},
    }


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tables after two hours of such headers, with a file of columns and one rejected entry."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "columns.toml").write_text(COLUMNS, encoding="utf-8")
    with serving(archive := Archive(folder / "archive")) as service:
        made = world(service, folder / "tables")
        ours = replace(
            made.settings, columns_file=str(folder / "columns.toml"), header_columns="both"
        )
        for study, date in enumerate(DATES, start=1):
            for sop, offset in enumerate(OFFSETS, start=1):
                archive.store(hostile(study, date, offset, sop), at=at(0, study, sop))
        odd = InstanceKey("Microsoft.Default", study_uid(50), series_uid(50, 1), sop_uid(50, 1, 9))
        archive.put(header(50), key=odd, at=at(0, 30))
        World(ours).run(FIRST)
        archive.update([study_uid(1)], renamed("PHI-Second"), at=at(1, 1))
        archive.delete(study_uid(7), series_uid(7, 1), sop_uid(7, 1, 1), at=at(1, 2))
        World(ours).run(KEYS[1])
    return World(ours)


def test_spark_reads_every_column_of_every_table(tables: World, tmp_path: Path) -> None:
    """Each by itself, and with the values that we read."""
    store = tables.store
    files = {table.name: store.delta(table).file_uris() for table in TABLES}
    told = _spark(files, tmp_path)
    refused, differing = [], []
    for table in TABLES:
        ours = store.open(table).rows()
        # Delta keeps the column that parts the files in its log, not in them.
        kept = [name for name in ours.column_names if name not in table.partition_columns]
        assert set(told[table.name]) == set(kept), table.name
        for name in kept:
            theirs = told[table.name][name]
            if isinstance(theirs, str):
                refused.append(f"{table.name}.{name}: {theirs}")
            elif sorted(map(_text, theirs)) != sorted(_text(v) for v in ours[name].to_pylist()):
                differing.append(f"{table.name}.{name}")
    assert (refused, differing) == ([], [])
    # The texts are what a header said, so the test has seen such headers.
    assert set(told[INSTANCE.name]["patientbirthdate"]) >= set(DATES)


def _spark(files: Mapping[str, list[str]], folder: Path) -> dict[str, Any]:
    """What Spark tells of each column of each table."""
    python, java = ENVIRONMENT / "bin" / "python", _java()
    if java is None or not python.exists():
        missing = pytest.fail if os.environ.get("CI", "").lower() in {"1", "true"} else pytest.skip
        missing(REMEDY)
    done = subprocess.run(
        [str(python), str(HERE / "reader.py")],
        input=json.dumps(files),
        cwd=folder,
        env={**os.environ, "JAVA_HOME": str(java), "SPARK_LOCAL_IP": "127.0.0.1", "TZ": "UTC"},
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    overhear(done.stderr)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["version"].startswith("3.5."), told["version"]
    return dict(told["tables"])


def _java() -> Path | None:
    """The home of a Java 17, None when there is none."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += [Path(path).resolve().parents[1] for path in filter(None, [shutil.which("java")])]
    for home in [*homes, *Path("/usr/lib/jvm").glob("java-17-*")]:
        if (program := home / "bin" / "java").exists():
            told = subprocess.run([program, "-version"], capture_output=True, check=False).stderr
            if b'"17.' in told:
                return home
    return None


def _text(value: object) -> str:
    """A value as JSON, in which a moment is one of UTC."""
    if isinstance(value, list):
        value = dict(value)
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None)
    return json.dumps(value, sort_keys=True, default=str)
