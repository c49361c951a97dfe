"""The files in the folder of a table, also those that no version of the table has.

Names, sizes and times are as the storage lists them. The table itself says which data files belong
to a version (`files`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from dicom_assets.errors import TableUnavailableError
from dicom_assets.schema import Table
from dicom_assets.tables.delta.handles import Output
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.delta.table_errors import raise_table_errors

LOG: Final = "_delta_log"
HINT: Final = f"{LOG}/_last_checkpoint"
_ENTRY: Final = re.compile(rf"{LOG}/(\d{{20}})\.(json|checkpoint\.(?:.+\.)?(?:parquet|json))")
# The errors of reading a damaged Parquet file.
PARQUET_ERRORS: Final = (pa.ArrowException, OSError)


class Stored(NamedTuple):
    """A file as the storage knows it: its path below the table, its bytes, when it was written."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Log:
    """The log of a table: commits and checkpoints by version, and all of its files by path."""

    commits: Mapping[int, Stored]
    checkpoints: Mapping[int, tuple[Stored, ...]]
    files: Mapping[str, Stored]

    @property
    def newest_checkpoint(self) -> int | None:
        """The version from which reading begins; None when there is no checkpoint."""
        return max(self.checkpoints, default=None)


def write_file(root: str, options: Mapping[str, str], path: str, content: bytes) -> str:
    """Write a file below the root of tables, whole or not at all, and return its full path.

    Raises TableUnavailableError when the storage does not take it.
    """
    full = f"{root.rstrip('/')}/{path}"
    try:
        if "://" not in root:
            Path(root).mkdir(parents=True, exist_ok=True)
        storage = pyarrow.fs.PyFileSystem(DeltaStorageHandler(root, dict(options)))
        with Output(storage, path, most=0) as opened:
            opened.write(content)
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise TableUnavailableError(
            f"{full} could not be written ({type(error).__name__}): check that the folder may be "
            "written and that there is space, then run again"
        ) from None
    return full


@dataclass(frozen=True)
class Folder:
    """The folder of a table."""

    table: Table
    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, store: Store, table: Table) -> "Folder":
        """Return the folder of one of the tables of a root."""
        return cls(table, store.urls[table.name], store.options_of(table))

    @cached_property
    def _storage(self) -> pyarrow.fs.PyFileSystem:
        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(self.url, dict(self.options)))

    def data(self) -> dict[str, Stored]:
        """Return the files outside the log by path: data files, garbage, and files of others."""
        return {f.path: f for f in self._listed("") if not f.path.startswith(f"{LOG}/")}

    def unfinished(self) -> list[Stored]:
        """Return the half-written files that killed processes left on this machine.

        The engine writes a local file under another name first, and neither lists nor removes it.
        Other storage drops a file that is not finished within a week.
        """
        if "://" in self.url:
            return []
        found = []
        for path in Path(self.url).rglob("*#*"):
            # Such as part-….parquet#1
            if re.search(r"#\d+\Z", path.name):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue  # its writer has finished and renamed it
                written = datetime.fromtimestamp(stat.st_mtime, UTC)
                found.append(Stored(path.as_posix(), stat.st_size, written))
        return found

    def log(self) -> Log:
        """Return the log as it is now; it is empty when the folder does not exist."""
        commits, checkpoints = dict[int, Stored](), dict[int, tuple[Stored, ...]]()
        listed = {file.path: file for file in self._listed(LOG)}
        for path, file in listed.items():
            if match := _ENTRY.fullmatch(path):
                version = int(match[1])
                if match[2] == "json":
                    commits[version] = file
                else:
                    checkpoints[version] = (*checkpoints.get(version, ()), file)
        return Log(commits, checkpoints, listed)

    def _listed(self, below: str) -> list[Stored]:
        selector = pyarrow.fs.FileSelector(below, allow_not_found=True, recursive=True)
        with raise_table_errors(self.table, self.url):
            try:
                infos = self._storage.get_file_info(selector)
            except TableNotFoundError:
                return []
        files = (f for f in infos if f.type == pyarrow.fs.FileType.File)
        return [Stored(f.path, f.size, cast("datetime", f.mtime)) for f in files]

    def read(self, path: str) -> bytes:
        """Return the bytes of a small file."""
        with (
            raise_table_errors(self.table, self.url),
            self._storage.open_input_file(path) as opened,
        ):
            return opened.read()

    def actions(self, commit: Stored) -> list[dict[str, Any]]:
        """Return the actions of a commit of the log. Raises ValueError for one that is cut."""
        return [json.loads(line) for line in self.read(commit.path).splitlines() if line]

    @contextmanager
    def parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        """Yield a Parquet file; the caller gets Arrow's own errors (PARQUET_ERRORS)."""
        with self._storage.open_input_file(path) as opened:
            yield pq.ParquetFile(opened, pre_buffer=False)
