"""The engine's handles of tables, brought up to date where they would be opened again.

Opening a table takes a dozen requests, and two for each commit since its checkpoint. Bringing a
handle up to date takes two for each commit since the last look.

- A handle moves here only, and only while nobody uses it. Whoever looks at a newer version while an
  older one is in use gets a handle of their own. Those who look at the same version share one: a
  commit of files does not move it, and whatever does takes it out of here.
- A handle is believed again only while the log still has the commit that it ends with. The engine
  does not notice a table that was removed, made anew or restored: such a table is opened.
- A thread has its own handles. They live as long as the store whose storage options they have, and
  ask for tokens themselves.
"""

import copy
import io
import json
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

SMALL_FILES_BYTES: Final = 16 * 2**20


def open_delta(
    url: str, options: Mapping[str, str], version: int | None = None
) -> DeltaTable | None:
    """Return a version of the Delta table at a URL, None when there is no table."""
    try:
        return DeltaTable(url, version, storage_options=dict(options))
    except TableNotFoundError:
        return None


def storage_of(
    delta: DeltaTable | None, sizes: Mapping[str, int] | None = None
) -> pyarrow.fs.PyFileSystem:
    """Return the folder of a table, by the handle's own connection and its token.

    Files whose sizes are known are read without a request for their size.
    """
    raw = cast("Any", delta)._table  # noqa: SLF001 - there is no public way
    handler: Any = DeltaStorageHandler.from_table(raw, None, dict(sizes or {}))
    return pyarrow.fs.PyFileSystem(handler)


class Output(io.RawIOBase):
    """A stream to a new file in the folder of a table. It keeps the bytes of a small file."""

    def __init__(self, storage: pyarrow.fs.PyFileSystem, path: str, most: int) -> None:
        """Keep `content` while it has `most` bytes or fewer, else None."""
        # Arrow's own stream takes no bytes from Python, and there is no public way to this one.
        handler = cast("Any", storage).handler._handler  # noqa: SLF001
        self._stream, self._most = handler.open_output_stream(path, None), most
        self.size, self.content = 0, cast("bytes | None", b"")

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, part: Any, /) -> int:  # noqa: ANN401 - Arrow gives bytes
        """Write bytes, and return their number."""
        self._stream.write(part)
        self.size += len(part)
        if self.content is not None:
            self.content = self.content + part if self.size <= self._most else None
        return len(part)

    def close(self) -> None:
        """Finish the file."""
        if not self.closed:
            self._stream.close()
        super().close()


class Handles:
    """The handles of one store, by thread and URL.

    Also the last look at each table of the step that is at work, if one is (`Store.recent`), and
    the small data files that were read or written, which never change.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._held = dict[tuple[int, str], _Handle]()
        self.looks, self.is_step = dict[str, Any](), False
        self._small = dict[tuple[str, str], bytes]()

    def __reduce__(self) -> tuple[type["Handles"], tuple[()]]:
        """Hold none in another process either."""
        return Handles, ()

    def newest(self, url: str, options: Mapping[str, str]) -> DeltaTable | None:
        """Return the newest version of the Delta table at a URL, None when there is none."""
        key = threading.get_ident(), url
        held = self._held.pop(key, None)
        if held is None or not held.moves():
            delta = open_delta(url, options)
            if delta is None:
                return None
            # One that could not be believed for want of a proof has one next time.
            held = _Handle(delta, proof=_digest(_newest_commit(delta)) if held else None)
        self._held[key] = held
        return held.lent()

    def kept(self, url: str, name: str) -> bytes | None:
        """Return the bytes of a small file of a table, if they are here."""
        return self._small.get((url, name))

    def keep(self, url: str, name: str, content: bytes) -> bytes:
        """Keep the bytes of a small file, instead of all others when there is no space."""
        if sum(map(len, self._small.values())) + len(content) > SMALL_FILES_BYTES:
            self._small.clear()
        self._small[url, name] = content
        return content

    def committed(self, name: str, url: str) -> None:
        """Expect a newer version of a table, which the step looks at again."""
        self.looks.pop(name, None)
        if held := self._held.get((threading.get_ident(), url)):
            held.is_behind = True

    def version(self, url: str) -> int | None:
        """Return the number of the newest version of a table that has a handle, else None."""
        held = self._held.get((threading.get_ident(), url))
        try:
            return None if held is None else held.latest()
        except DeltaError:
            return None


@dataclass
class _Handle:
    """A handle, the copy of it that is in use, and the digest of its newest commit if known.

    It is behind when this process has committed since.
    """

    delta: DeltaTable
    proof: str | None
    used: "weakref.ref[DeltaTable] | None" = None
    is_behind: bool = False

    def __post_init__(self) -> None:
        self._version = self.delta.version()

    def lent(self) -> DeltaTable:
        """Return the handle for use until the last reference to it is gone."""
        delta = None if self.used is None else self.used()
        if delta is None:
            delta = copy.copy(self.delta)
            self.used = weakref.ref(delta)
        return delta

    def latest(self) -> int:
        """Return the number of the newest version in the log, if that is not an older one."""
        return int(cast("Any", self.delta)._table.get_latest_version())  # noqa: SLF001 - as above

    def moves(self) -> bool:
        """Bring the handle up to date; return False when the table has to be opened instead."""
        if self.delta.version() != self._version or not self._is_of(_newest_commit(self.delta)):
            return False
        try:
            if not self.is_behind and self.latest() == self._version:
                return True
            if self.used is not None and self.used() is not None:
                return False
            self.delta.update_incremental()
        except DeltaError:
            return False
        self.is_behind = False
        self._version, self.proof = self.delta.version(), None
        return True

    def _is_of(self, commit: bytes) -> bool:
        """Return whether a commit is the one that this handle ends with."""
        digest = _digest(commit)
        if self.proof is None and self._names(commit):
            self.proof = digest
        return bool(commit) and self.proof == digest

    def _names(self, commit: bytes) -> bool:
        """Return whether a commit adds files of this version, or has the table's ID."""
        try:
            actions = [json.loads(line) for line in commit.splitlines() if line]
        except ValueError:
            return False
        added = {action["add"]["path"] for action in actions if "add" in action}
        ids = {action["metaData"]["id"] for action in actions if "metaData" in action}
        if not (added or ids) or not ids <= {str(self.delta.metadata().id)}:
            return False
        paths = pa.table(cast("Any", self.delta.get_add_actions()))["path"] if added else ()
        return added <= {*map(str, paths)}


def _newest_commit(delta: DeltaTable) -> bytes:
    """Return the newest commit of a handle's version, nothing when the log does not have it."""
    try:
        with storage_of(delta).open_input_file(f"_delta_log/{delta.version():020}.json") as opened:
            return opened.read()
    except (DeltaError, OSError):
        return b""


def _digest(commit: bytes) -> str:
    return blake2b(commit, digest_size=16).hexdigest()
