"""The cache of studies and files spoiled, in every way that it may be found, and made small."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from dicom_assets.tables.delta import study_files

RECENT = "recent.index"


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few rows have a base and increments, each in several groups."""
    monkeypatch.setattr(study_files, "FEW_FILES", 0)
    monkeypatch.setattr(study_files, "RECENT_FILES", 5)
    monkeypatch.setattr(study_files, "RECENT_ENTRIES", 30)
    monkeypatch.setattr(study_files, "GROUP_ENTRIES", 7)
    monkeypatch.setattr(study_files, "REBUILT_AT_ONCE", 3)


def parts(folder: Path) -> list[Path]:
    """The parts of the cache in its folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lose_all(folder: Path, _: Random) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _lose_base(folder: Path, _: Random) -> None:
    for path in parts(folder):
        if path.name != RECENT:
            path.unlink()


def _lose_recent(folder: Path, _: Random) -> None:
    (folder / RECENT).unlink(missing_ok=True)


def _truncate(folder: Path, random: Random) -> None:
    for path in parts(folder):
        os.truncate(path, random.randrange(path.stat().st_size + 1))


def _flip(folder: Path, random: Random) -> None:
    for path in parts(folder):
        if held := bytearray(path.read_bytes()):
            held[random.randrange(len(held))] ^= 1 << random.randrange(8)
            path.write_bytes(held)


def _exchange_parts(folder: Path, _: Random) -> None:
    held = [path.read_bytes() for path in parts(folder)]
    for path, other in zip(parts(folder), reversed(held), strict=True):
        path.write_bytes(other)


def _none(_: Path, __: Random) -> None:
    pass


SPOILED = (_none, _lose_all, _lose_base, _lose_recent, _truncate, _flip, _exchange_parts)
