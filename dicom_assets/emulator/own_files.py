"""A user's own files as an archive: found in folders and zip files, stored where they lie.

Here: finding files, reading them in several processes, storing them with a time that the caller
gives, and taking the last import back. Not here: one file (`headers`), the effect of a write
(`archive`), words for people (the command `import`).

Files are never copied, but for those in zip files, which are unpacked beside the archive, so that
the path of each entry leads to a file. A file that is not stored is a `Refusal`: none is lost
without a word.
"""

from __future__ import annotations

import filecmp
import json
import multiprocessing
import os
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pydicom
from pydicom.errors import InvalidDicomError

from dicom_assets.emulator.archive import AlreadyStored, Archive, encode, instance_key
from dicom_assets.emulator.headers import FilePart, Reason, Refused, parse_file
from dicom_assets.emulator.sample import UNREADABLE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

CUT_SHORT: Final = "cut-short"
STORED_TWICE: Final = "stored-twice"
OTHER_CONTENT: Final = "other-content"
NAME_NOT_TEXT: Final = "name-not-utf-8"
NOT_IN_FOLDER: Final = "named-in-dicomdir"
DAMAGED_ZIP: Final = "damaged-zip"
LARGE_ZIP: Final = "large-zip"
ENCRYPTED: Final = "encrypted"

UNPACKED: Final = "files"
_JOURNAL: Final = "imports.json"
_PREAMBLE: Final = 132
# Below, one process is faster than starting several.
_FEW: Final = 300
_AT_ONCE: Final = 32
# The best that deflate does is 1,032 to 1. Empty pixels come near, so small files may be so.
_MOST_RATIO: Final = 100
_HARMLESS_BYTES: Final = 2**30
_FREE_BYTES: Final = 2**30
_ENCRYPTED_FLAG: Final = 1
_DIRECTORY: Final = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: a DICOMDIR


class OwnFile(NamedTuple):
    """A file to store: its path, and the name by which its owner knows it."""

    path: Path
    shown: str


class Refusal(NamedTuple):
    """A file that is not stored, and why not."""

    shown: str
    reason: str


@dataclass
class ImportResult:
    """Result of an import: instances by modality, distinct studies and series, refused files.

    `known` files were stored by an earlier import.
    """

    modalities: Counter[str] = field(default_factory=Counter)
    studies: set[str] = field(default_factory=set)
    series: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)
    known: int = 0

    def add(self, header: Mapping[str, Any]) -> None:
        """Count an instance that was stored."""
        key = instance_key(header)
        modality = header.get("00080060", {}).get("Value", [None])[0]
        self.modalities[str(modality or "without modality")] += 1
        self.studies.add(key.study.rstrip())
        self.series.add(key.series.rstrip())


# --- finding --------------------------------------------------------------------------------------


@dataclass
class Search:
    """The files at and below paths, each once; those of zip files are unpacked into a folder.

    The folder `skipped` is left out: it is the archive's own. `size` is the number of bytes that
    the files have where they lie.
    """

    skipped: Path
    files: list[OwnFile] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    size: int = 0
    _met: set[tuple[int, int]] = field(default_factory=set)
    _paths: set[Path] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Add the files of a folder, of a DICOMDIR's folder, or of a zip file, or one file."""
        path = path.absolute()
        if path.name.upper() == "DICOMDIR" and path.is_file():
            path = path.parent
        if not path.is_dir():
            self._file(path)
            return
        if not self._is_new(path):
            return
        for folder, below, names in os.walk(path, followlinks=True, onerror=self._unreadable):
            # A link may lead to a folder that was met, or above: each is entered once.
            below[:] = sorted(name for name in below if self._is_new(Path(folder, name)))
            for name in sorted(names):
                self._file(Path(folder, name))

    def _unreadable(self, error: OSError) -> None:
        self._refuse(Path(str(error.filename)), UNREADABLE_FILE)

    def _refuse(self, path: Path | str, reason: str) -> None:
        self.refused.append(Refusal(str(path), reason))

    def _is_new(self, path: Path) -> bool:
        try:
            known = path.stat()
        except OSError:
            self._refuse(path, UNREADABLE_FILE)
            return False
        identity = (known.st_dev, known.st_ino)
        is_new = identity not in self._met and path.resolve() != self.skipped.resolve()
        self._met.add(identity)
        return is_new

    def _file(self, path: Path) -> None:
        """Add one file. Anything that is no plain file, such as a pipe, is refused."""
        if path in self._paths:
            return
        self._paths.add(path)
        try:
            str(path).encode()
            known = path.stat()
        except UnicodeEncodeError:
            self._refuse(path, NAME_NOT_TEXT)
            return
        except OSError:
            self._refuse(path, UNREADABLE_FILE)
            return
        if not stat.S_ISREG(known.st_mode):
            self._refuse(path, UNREADABLE_FILE)
        elif path.name.upper() == "DICOMDIR" and (named := _named_files(path)) is not None:
            there = {
                one.relative_to(path.parent).as_posix().lower() for one in path.parent.rglob("*")
            }
            for name in named:
                if name.lower() not in there:
                    self._refuse(path.parent / name, NOT_IN_FOLDER)
        else:
            self.size += known.st_size
            if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
                self._unpack(path)
            else:
                self.files.append(OwnFile(path, str(path)))

    def _unpack(self, path: Path) -> None:
        """Unpack the DICOM files of a zip file; name the others."""
        folder = self.skipped / UNPACKED
        folder.mkdir(0o700, parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(path) as opened:
                members = [one for one in opened.infolist() if not one.is_dir()]
                whole, packed = sum(m.file_size for m in members), path.stat().st_size
                room = shutil.disk_usage(folder).free - _FREE_BYTES
                if whole > min(room, max(_HARMLESS_BYTES, packed * _MOST_RATIO)):
                    self._refuse(path, LARGE_ZIP)
                    return
                for number, member in enumerate(members):
                    name = f"{path}/{member.filename}"
                    target = folder / f"{zlib.crc32(str(path).encode()):08x}-{number}.part"
                    reason = _unpack_member(opened, member, target)
                    if reason is None:
                        self.files.append(OwnFile(target, name))
                    elif Path(member.filename).name.upper() != "DICOMDIR":
                        self._refuse(name, reason)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
            self._refuse(path, DAMAGED_ZIP)


def _unpack_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> str | None:
    """Write a member to a file for its owner alone; return the reason if it is not written."""
    if member.flag_bits & _ENCRYPTED_FLAG:
        return ENCRYPTED
    try:
        with opened.open(member) as source:
            head = source.read(_PREAMBLE)
            if head[128:] != b"DICM":
                return Reason.NOT_PART_10.value
            target.touch(0o600)
            with target.open("wb") as file:
                file.write(head)
                shutil.copyfileobj(source, file, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
        target.unlink(missing_ok=True)
        return DAMAGED_ZIP
    return None


def _named_files(path: Path) -> list[str] | None:
    """Return the paths that a DICOMDIR names; None for a file that is none."""
    try:
        directory = pydicom.dcmread(path, stop_before_pixels=True)
        if directory.file_meta.MediaStorageSOPClassUID != _DIRECTORY:
            return None
        records = directory.get("DirectoryRecordSequence") or []
        ids = [record.get("ReferencedFileID") for record in records]
        return ["/".join([one] if isinstance(one, str) else one) for one in ids if one]
    except (InvalidDicomError, OSError, AttributeError, ValueError, TypeError, KeyError, EOFError):
        return None


# --- reading and storing --------------------------------------------------------------------------


def read_file(path: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return the header of a file, or None and the reason of its refusal."""
    try:
        with Path(path).open("rb") as opened:
            part = FilePart(opened, 0, os.fstat(opened.fileno()).st_size)
            try:
                header = parse_file(part).header
            except Refused as refusal:
                is_cut = part.is_cut and refusal.reason is not Reason.NOT_PART_10
                return None, CUT_SHORT if is_cut else refusal.reason.value
    except OSError:
        return None, UNREADABLE_FILE
    return (None, CUT_SHORT) if part.is_cut else (header, "")


@contextmanager
def _reader(count: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Lend `map`, over several processes for many files."""
    if count < _FEW:
        yield map
        return
    # Spawned, because threads of other libraries do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=_AT_ONCE)


def store_files(
    archive: Archive,
    files: Sequence[OwnFile],
    moment: Callable[[int, Mapping[str, Any]], int],
    progress: Callable[[int, int], None],
) -> ImportResult:
    """Store files; `moment` gives the ticks of the n-th new one, from its number and header.

    A file with the UIDs of another is refused, unless it is the one that an earlier import stored.
    """
    stored, first = ImportResult(), _next_sequence(archive)
    _note(archive, [*imports(archive), first])
    with _reader(len(files)) as read:
        paths = [str(file.path) for file in files]
        for done, (file, (header, reason)) in enumerate(
            zip(files, read(read_file, paths), strict=True), 1
        ):
            why: str | None = reason
            if header is not None:
                at = moment(stored.modalities.total(), header)
                why = _store(archive, file, header, at, first)
            if why == "":
                stored.add(header or {})
            elif why is None:
                stored.known += 1
            else:
                stored.refused.append(Refusal(file.shown, why))
            if file.path.suffix == ".part":
                file.path.unlink(missing_ok=True)
            progress(done, len(files))
    if _next_sequence(archive) == first:
        _note(archive, imports(archive)[:-1])
    return stored


def _store(
    archive: Archive, file: OwnFile, header: Mapping[str, Any], at: int, first: int
) -> str | None:
    """Store one file; return '' if it is new, None if it is known, else the reason."""
    path = file.path
    if path.suffix == ".part" and str(path) != file.shown:
        path = path.with_name(
            f"{instance_key(header).sop.rstrip()}-{zlib.crc32(encode(header).encode()):08x}.dcm"
        )
    try:
        archive.store(header, at=at, file_path=str(path))
    except AlreadyStored:
        held = archive.current(instance_key(header))
        if held is None or held.header != encode(header) or not _is_same(held.file_path, file.path):
            return OTHER_CONTENT
        return None if held.sequence < first else STORED_TWICE
    if path != file.path:
        file.path.replace(path)
    return ""


def _is_same(held: str | None, path: Path) -> bool:
    """Return True for the same bytes, and where the file that is held is gone."""
    if held == str(path):
        return True
    with suppress(OSError):
        return filecmp.cmp(str(held), path, shallow=False)
    return True


# --- taking back ----------------------------------------------------------------------------------


def imports(archive: Archive) -> list[int]:
    """Return the first sequence of each import that is still there, in order."""
    with suppress(FileNotFoundError):
        return [*map(int, json.loads((archive.path.parent / _JOURNAL).read_text("utf-8")))]
    return []


def take_back(archive: Archive, at: int) -> int:
    """Delete the instances of the last import by entries of a time; return how many."""
    *others, first = imports(archive)
    count = 0
    for entry in archive.since(first):
        if entry.action == "Create" and entry.state == "Current":
            archive.delete(entry.study, entry.series, entry.sop, partition=entry.partition, at=at)
            count += 1
            if (
                entry.file_path
                and Path(entry.file_path).parent == archive.path.parents[1] / UNPACKED
            ):
                Path(entry.file_path).unlink(missing_ok=True)
    _note(archive, others)
    return count


def _next_sequence(archive: Archive) -> int:
    newest = archive.latest(by_sequence=True, header=False)
    return 1 if newest is None else newest.sequence + 1


def _note(archive: Archive, firsts: Sequence[int]) -> None:
    path = archive.path.parent / _JOURNAL
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(list(firsts)), encoding="utf-8")
    draft.replace(path)
