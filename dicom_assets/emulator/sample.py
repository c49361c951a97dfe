"""Content of the embedded emulator: the DICOM files that pydicom ships, as two days of a clinic.

Here: filling the archive once for all processes, importing a user's files.
Not here: reading files (`headers`), the effect of a write (`archive`).

The story is made by rule, not by chance: the same files give the same feed on every machine,
moved only by the first hour. Studies arrive by their own date, in minutes of their own, with
quiet hours between; then some are corrected, some deleted, and one is stored again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

import pydicom
from filelock import FileLock

from dicom_assets.emulator import ticks
from dicom_assets.emulator.archive import AlreadyStored, Archive, instance_key
from dicom_assets.emulator.headers import FilePart, Refused, parse_file

if TYPE_CHECKING:
    from datetime import datetime

ProgressCallback = Callable[[int, int], None]
_Header = Mapping[str, Any]

ALREADY_STORED: Final = "already-stored"
UNREADABLE_FILE: Final = "unreadable-file"

_REPORT: Final = "report.json"
_ARCHIVE: Final = "archive.sqlite"

# Stores come in five hours of six. Later changes of a study still fit into the 48.
_QUIET: Final = 4
_BUSY_HOURS: Final = tuple(hour for hour in range(44) if hour % 6 != _QUIET)
# The studies updated, deleted and re-created, by order of arrival: every seventh, every ninth, one.
_UPDATED: Final = 3
_DELETED: Final = 5
_RECREATED: Final = 23  # 23 % 9 is 5, and 23 // 9 % 3 is 2: it was deleted whole
_CORRECTIONS: Final = (
    {"00081030": {"vr": "LO", "Value": ["Description corrected"]}},
    {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Name^Corrected"}]}},
    {"00080050": {"vr": "SH", "Value": ["CORRECTED-1"]}},
)


@dataclass(frozen=True)
class Report:
    """Numbers of instances stored, updated, deleted, re-created; of refused files by reason."""

    stored: int = 0
    updated: int = 0
    deleted: int = 0
    recreated: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


class Action(StrEnum):
    """Kinds of steps in the story."""

    STORE = "stored"
    UPDATE = "updated"
    DELETE = "deleted"
    RECREATE = "recreated"


class StoryStep(NamedTuple):
    """One change of the archive: its time in ticks, its header or UIDs."""

    at: int
    action: Action
    header: _Header
    uids: tuple[str, ...] = ()


def prepare_archive(
    directory: Path, *, first_hour: datetime, progress: ProgressCallback | None = None
) -> Archive:
    """Open the archive in the directory, after filling it with pydicom's files if there was none.

    One process fills and the others wait. An interrupted fill begins anew.
    """
    directory.mkdir(0o700, parents=True, exist_ok=True)
    with FileLock(directory.with_name(f"{directory.name}.lock")):
        if not (directory / _ARCHIVE).exists():
            _build(directory, first_hour, progress or _silent)
    return Archive(directory)


def fill_report(directory: Path) -> Report:
    """Return the report of the fill in the directory; FileNotFoundError if there was none."""
    return Report(**json.loads((directory / _REPORT).read_text(encoding="utf-8")))


def import_paths(
    archive: Archive,
    paths: Iterable[Path],
    progress: ProgressCallback | None = None,
    refuse: Callable[[Path, str], None] = lambda _file, _reason: None,
) -> Report:
    """Store every DICOM file at and below the paths with the time of now; return the counts.

    `refuse` takes each refused file, and the reason.
    """
    files = [file for path in paths for file in _below(path)]
    stored = 0
    refused: Counter[str] = Counter()
    for done, file in enumerate(files, 1):
        try:
            with file.open("rb") as opened:
                part = FilePart(opened, 0, file.stat().st_size)
                archive.store(parse_file(part).header)
        except (AlreadyStored, Refused, OSError) as error:
            reason = error.reason.value if isinstance(error, Refused) else ALREADY_STORED
            reason = UNREADABLE_FILE if isinstance(error, OSError) else reason
            refused[reason] += 1
            refuse(file, reason)
        else:
            stored += 1
        (progress or _silent)(done, len(files))
    return Report(stored=stored, refused=dict(refused))


def pydicom_files() -> list[Path]:
    """Return the DICOM files in pydicom's own data folder, without its downloads."""
    files = _below(Path(pydicom.__file__).parent / "data")
    return [f for f in files if f.suffix == ".dcm" or f.read_bytes()[128:132] == b"DICM"]


def plan(headers: Iterable[_Header], start: int) -> list[StoryStep]:
    """Return the steps of the instances in the 48 hours from `start`, by time."""
    studies: dict[str, list[_Header]] = {}
    for header in sorted(headers, key=_chronology):
        studies.setdefault(instance_key(header).study, []).append(header)
    steps: list[StoryStep] = []
    for index, group in enumerate(studies.values()):
        hour = _BUSY_HOURS[index * len(_BUSY_HOURS) // len(studies)]
        steps += _life(index, group, start + hour * ticks.PER_HOUR)
    return sorted(steps, key=lambda step: step.at)


def _life(index: int, headers: Sequence[_Header], hour: int) -> Iterator[StoryStep]:
    """Yield the steps of one study. All are stored; a few, by index, are changed later."""
    study = instance_key(headers[0]).study
    arrival = hour + _spread(study, 50 * 60 * ticks.PER_SECOND)
    for place, header in enumerate(headers):
        yield StoryStep(_moment(arrival, place, header), Action.STORE, header)
    if index % 7 == _UPDATED:
        correction = _CORRECTIONS[index // 7 % len(_CORRECTIONS)]
        yield StoryStep(arrival + ticks.PER_HOUR, Action.UPDATE, correction, (study,))
    if index % 9 == _DELETED:
        level = 3 - index // 9 % 3
        uids = instance_key(headers[-1])[1 : 1 + level]
        yield StoryStep(arrival + 2 * ticks.PER_HOUR, Action.DELETE, {}, uids)
    if index == _RECREATED:
        for place, header in enumerate(headers):
            moment = _moment(arrival + 3 * ticks.PER_HOUR, place, header)
            yield StoryStep(moment, Action.RECREATE, header)


def _moment(arrival: int, place: int, header: _Header) -> int:
    """Return a time one or two seconds after the instance before, with seven digits of its own."""
    return arrival + place * ticks.PER_SECOND + _spread(instance_key(header).sop, ticks.PER_SECOND)


def _spread(text: str, span: int) -> int:
    """Return a number below `span` that depends on the text alone."""
    return crc32(text.encode()) * span >> 32


def _chronology(header: _Header) -> tuple[str, str, str, str, int, str]:
    """Return the sort key: date and time of the study, then study, series, number, instance."""
    key = instance_key(header)
    date, time, number = (_first(header, tag) for tag in ("00080020", "00080030", "00200013"))
    place = number if isinstance(number, int) else 0
    return str(date or ""), str(time or ""), key.study, key.series, place, key.sop


def _first(header: _Header, tag: str) -> object:
    return header.get(tag, {}).get("Value", [None])[0]


def _build(directory: Path, first_hour: datetime, progress: ProgressCallback) -> None:
    """Fill the directory with a whole archive. Its file appears last, and at once."""
    building = directory.with_name(f"{directory.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    archive = Archive(building)
    headers, refused = _parse_all(progress)
    done: Counter[str] = Counter()
    for step in plan(headers, ticks.of(first_hour)):
        try:
            done[step.action] += _perform(archive, step)
        except AlreadyStored:
            refused[ALREADY_STORED] += 1
    archive.close()
    report = Report(**{action.value: done[action] for action in Action}, refused=dict(refused))
    (directory / _REPORT).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    os.replace(building / _ARCHIVE, directory / _ARCHIVE)  # noqa: PTH105 - over whatever is there
    shutil.rmtree(building)


def _parse_all(progress: ProgressCallback) -> tuple[list[_Header], Counter[str]]:
    headers: list[_Header] = []
    refused: Counter[str] = Counter()
    files = pydicom_files()
    for done, file in enumerate(files, 1):
        try:
            headers.append(parse_file(file.read_bytes()).header)
        except Refused as refusal:
            refused[refusal.reason.value] += 1
        progress(done, len(files))
    return headers, refused


def _perform(archive: Archive, step: StoryStep) -> int:
    """Perform the step, and return the number of instances it touched."""
    match step.action:
        case Action.STORE | Action.RECREATE:
            archive.store(step.header, at=step.at)
            return 1
        case Action.UPDATE:
            return len(archive.update(step.uids, step.header, at=step.at))
        case Action.DELETE:
            return len(archive.delete(*step.uids, at=step.at))


def _below(path: Path) -> list[Path]:
    """Return the files below a folder by name; for a file, itself."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""
