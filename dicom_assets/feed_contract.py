"""The types that `feed` returns and `tables` takes.

Neither package imports the other, and both import this module. DICOM values are in the Arrow tables
only: a rejection holds a sequence, a time and a reason.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from dicom_assets.window import Partitions, Window

# The data partition, and the UIDs of study, series and SOP instance.
Key = tuple[str, str, str, str]
# Stands for the key of an entry that is in the feed and cannot be used.
UNREADABLE: Final[Key] = ("", "", "", "")
# Raise it when entries can be used that were rejected before: each one that waits is then tried
# again at once.
READING_EDITION: Final = "2"


@dataclass(frozen=True)
class Rejection:
    """An unusable entry. `reason` is one of a few constant texts, never a value.

    `ticks` is its time, None when that cannot be read. `place` is its tick in the order of the
    list: an entry without a readable time belongs to the hour of its place.
    """

    sequence: int | None
    ticks: int | None
    reason: str
    place: int | None = None

    @property
    def at(self) -> int | None:
        """The tick by which it belongs to an hour."""
        return self.ticks if self.place is None else self.place


def can_heal(reason: str) -> bool:
    """True for a rejected header: later runs retry it until the service serves a usable one.

    Every other reason is about the entry itself. A retry reads the same again, until the operator
    of the service has corrected the entry.
    """
    return reason.startswith("header ")


@dataclass(frozen=True)
class Entries:
    """The result of a light read: every entry of a window once, without headers.

    `changes` has the columns of `schema.CHANGE` and is ordered by (timestamp_ticks, sequence). Its
    state is the one served. `listed` counts the rows of all pages, those with the same sequence
    once. `skipped` counts the entries of data partitions that are not among the kept `partitions`.
    """

    changes: pa.Table
    listed: int
    rejections: tuple[Rejection, ...] = ()
    skipped: int = 0
    pages: int = 0
    bytes: int = 0
    partitions: Partitions = None


@dataclass(frozen=True)
class Headers:
    """A part of the result of a header read: the rows of wanted entries that are not Deleted.

    `rows` has the columns of `schema.INSTANCE`. Its created_date and received_timestamp are null.
    `deleted` and `replaced` are the sequences served in those states. The row of a replaced one
    shows the instance as it is now, under the wanted sequence. `unparsable` counts the values that
    became null, by `column: reason`.
    """

    rows: pa.Table
    deleted: tuple[int, ...] = ()
    replaced: tuple[int, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    unparsable: Mapping[str, int] = field(default_factory=dict)
    pages: int = 0
    bytes: int = 0


class Feed(Protocol):
    """A change feed as the tables need it. `feed.ChangeFeed` implements it over HTTP."""

    def entries(
        self,
        window: Window,
        progress: Callable[[int], None] | None = None,
        take: Callable[[pa.Table], None] | None = None,
    ) -> Entries:
        """Return every entry of the window, without headers.

        `progress` is called with the number of entries read so far, `take` with the entries in
        parts, in their order. Those that it got are not in the result.
        """

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterable[Headers]:
        """Yield the headers of the wanted sequences, in any order.

        `log` (sequence, timestamp_ticks) holds their rows of the log, and the known rows between.
        """

    def key_of(self, sequence: int, ticks: int) -> Key | None:
        """Return the key of the entry with this sequence at this tick.

        None when the feed has no such entry, UNREADABLE when it has one that cannot be used.
        """
