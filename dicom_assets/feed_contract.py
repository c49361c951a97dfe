"""What a read of the feed brings: the form in which `feed` hands to `tables`.

Neither package knows the other; both know these. No value in here but the tables themselves: a
rejection names a sequence, a time and a reason.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from dicom_assets.window import Window

Key = tuple[str, str, str, str]
# The key of an entry that stands where it stood, in a form that cannot be used now.
UNREADABLE: Final[Key] = ("", "", "", "")


@dataclass(frozen=True)
class Rejection:
    """An entry that cannot be used. `reason` is one of a few constant texts, never a value."""

    sequence: int | None
    ticks: int | None
    reason: str


@dataclass(frozen=True)
class Entries:
    """The light read of a window: every entry once, without headers.

    `changes` has the columns of `schema.CHANGE`, ordered by (timestamp_ticks, sequence), with the
    state as served. `skipped` counts entries of data partitions that are not kept.
    """

    changes: pa.Table
    rejections: tuple[Rejection, ...] = ()
    skipped: int = 0
    pages: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Headers:
    """A piece of the heavy read: the rows of the entries that were asked for and are not Deleted.

    `rows` has the columns of `schema.INSTANCE`; created_date and received_timestamp are null.
    `deleted` and `replaced` hold the sequences served in those states; the rows of the replaced
    show the instance as it stands now, under the sequence that was asked for. `unparsable` counts,
    by column, the values that became null.
    """

    rows: pa.Table
    deleted: tuple[int, ...] = ()
    replaced: tuple[int, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    unparsable: Mapping[str, int] = field(default_factory=dict)
    pages: int = 0
    bytes: int = 0


class Feed(Protocol):
    """What the tables ask of the feed; `feed.ChangeFeed` answers over HTTP."""

    def entries(self, window: Window, progress: Callable[[int], None] | None = None) -> Entries:
        """Return every entry of the window, without headers; `progress` is told how many so far."""

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterable[Headers]:
        """Yield the headers of the wanted sequences.

        `log` (sequence, timestamp_ticks) holds them and the log rows known around them.
        """

    def key_of(self, sequence: int, ticks: int) -> Key | None:
        """Return the key of the entry with this sequence and time: partitionName and three UIDs.

        None when there is none; UNREADABLE when it is there and cannot be used.
        """
