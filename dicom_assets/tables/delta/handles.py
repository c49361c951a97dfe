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
import json
import threading
import weakref
from collections.abc import Callable, Mapping
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


class Handles:
    """The handles of one store, by thread and URL.

    Also the last look at each table of the step that is at work, if one is (`Store.recent`), and
    the small data files that were read, which never change.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._held = dict[tuple[int, str], _Handle]()
        self.looks, self.is_step = dict[str, Any](), False
        self._small, self._small_bytes = dict[tuple[str, str, int], bytes](), 0

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

    def small_file(self, url: str, path: str, size: int, read: Callable[[], bytes]) -> bytes:
        """Return the bytes of a small data file, read once while there is space for them."""
        key = url, path, size
        if key not in self._small:
            if self._small_bytes + size > SMALL_FILES_BYTES:
                self._small.clear()
                self._small_bytes = 0
            self._small[key] = read()
            self._small_bytes += size
        return self._small[key]

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
