"""The service's search for studies (QIDO-RS): how many series and instances each study has.

`StudyCounts` searches, and makes the few requests to the feed that explain a difference. A service
may refuse to search, or offer none: then the feed's errors are raised, and nothing was compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError, ServiceError
from dicom_assets.feed.client import ChangeFeed
from dicom_assets.feed.decode import (
    MAX_INT64,
    Entry,
    MalformedError,
    Uid,
    decode_page,
    require_few_marks,
)
from dicom_assets.feed.http.connection import ServiceQuery
from dicom_assets.feed.light_read import LightRead
from dicom_assets.feed.listing import MOST_STALE_PAGES
from dicom_assets.feed.rows import change_rows
from dicom_assets.feed_contract import Rejection
from dicom_assets.header.values import PADDING
from dicom_assets.window import Partitions, Window

T = TypeVar("T")

PAGE_STUDIES: Final = 200
PARTITIONS_SECONDS: Final = 5.0
WHERE: Final = "the search for studies (QIDO-RS)"
_NO_SEARCH: Final = (
    "the service, or a proxy before it, offers no search at that path. Its studies cannot be "
    "counted, and nothing else is wrong"
)
_NO_FIRST_VERSION: Final = (
    "only version 1 of the feed finds an entry by its sequence, and this service does not have it. "
    "Ask by the UID of the study"
)
# StudyInstanceUID, NumberOfStudyRelatedSeries, NumberOfStudyRelatedInstances.
_STUDY, _STUDY_SERIES, _STUDY_INSTANCES = "0020000D", "00201206", "00201208"


class Related(NamedTuple):
    """The counts of one study. `series` is None where the service does not give it."""

    instances: int
    series: int | None


class _Uids(msgspec.Struct):
    value: Annotated[list[Uid], msgspec.Meta(min_length=1)] = msgspec.field(name="Value")


class _Numbers(msgspec.Struct):
    # Services send IS as a number or as text.
    value: list[int | str | None] = msgspec.field(name="Value", default_factory=list)


class _Study(msgspec.Struct):
    uid: _Uids = msgspec.field(name=_STUDY)
    instances: _Numbers = msgspec.field(name=_STUDY_INSTANCES, default_factory=_Numbers)
    series: _Numbers = msgspec.field(name=_STUDY_SERIES, default_factory=_Numbers)


_STUDIES: Final = msgspec.json.Decoder(list[_Study])
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, Any]])


class StudyCounts(ChangeFeed):
    """A change feed with the search of its service.

    In all methods `partition` is None for a service without data partitions.
    """

    def partitions(self) -> Partitions:
        """Return the data partitions that the service shows, None when it has or shows none.

        A service without the feature may answer 400, as it does for a read that was cancelled. So
        an answer is awaited for seconds only.
        """
        query = ServiceQuery(f"{self._version}/partitions", {}, _names, "the data partitions")
        seconds = self._connection.retry_seconds - PARTITIONS_SECONDS
        began = self._connection.timeouts.now() - max(0.0, seconds)
        try:
            return self._connection.get(query, stop=self._closed, since=began) or None
        except ServiceError:
            return None

    def studies(self, partition: str | None) -> Iterator[Mapping[str, Related]]:
        """Yield the studies of a data partition by UID, page by page, each once.

        The second page in a row without a new study is the last: studies may have moved meanwhile.
        """
        met, offset, stale_pages = set[str](), 0, 0
        while stale_pages < MOST_STALE_PAGES:
            page = self.page(partition, offset, PAGE_STUDIES)
            fresh = {uid: related for uid, related in page.items() if uid not in met}
            if fresh:
                yield fresh
            met |= fresh.keys()
            offset += len(page)
            stale_pages = 0 if fresh else stale_pages + 1

    def page(self, partition: str | None, offset: int, limit: int = 1) -> Mapping[str, Related]:
        """Return at most `limit` studies by UID, from the `offset`-th on."""
        return self._studies(partition, {"limit": limit, "offset": offset})

    def study(self, partition: str | None, uid: str) -> Related | None:
        """Return the counts of a study, None when the service does not have it."""
        studies = self._studies(partition, {"StudyInstanceUID": uid, "limit": 2})
        if studies and uid not in studies:
            raise _no_search("it does not find a study by its UID")
        return studies.get(uid)

    def _studies(
        self, partition: str | None, parameters: Mapping[str, str | int]
    ) -> Mapping[str, Related]:
        # Both fields in one parameter: PS3.18 8.3.4 allows that as well as one parameter each.
        fields = {"includefield": f"{_STUDY_INSTANCES},{_STUDY_SERIES}"}
        related = {}
        for study in self._matches(partition, "studies", fields | dict(parameters), _STUDIES):
            instances = _number(study.instances)
            if instances is None:
                raise _no_search("it does not give the number of instances of a study")
            related[study.uid.value[0].rstrip(PADDING)] = Related(instances, _number(study.series))
        return related

    def _matches(
        self,
        partition: str | None,
        level: str,
        parameters: Mapping[str, str | int],
        decoder: "msgspec.json.Decoder[list[T]]",
    ) -> list[T]:
        def read(body: bytes) -> list[T]:
            # Without a match the answer is 204, without a body.
            require_few_marks(body)
            try:
                return decoder.decode(body) if body else []
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise MalformedError("it is not a list of DICOM objects") from None

        root = self._version if partition is None else f"{self._version}/partitions/{partition}"
        query = ServiceQuery(
            f"{root}/{level}", parameters, read, WHERE, "application/dicom+json", _NO_SEARCH
        )
        return self._connection.get(query, stop=self._closed)

    def holders(self, partition: str | None, level: str, uid: str) -> int:
        """Return how many `series` or `instances` (the level) with that UID the service has."""
        name = {"series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}[level]
        return len(self._matches(partition, level, {name: uid, "limit": 2}, _OBJECTS))

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry, None if it has none or there is no entry."""
        rows = self._listing.first()
        return rows[0][1].ticks if rows else None

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the usable entries of the window in stretches, as rows of `change`."""
        read = LightRead(self._listing, self._in_flight, None, progress)
        for stretch in read.stretches(window):
            yield _logged(listed.row for listed in stretch.rows.values())

    def entry(self, sequence: int) -> pa.Table:
        """Return the entry with a sequence as a row of `change`, or no row.

        The request goes to version 1 of the feed, because its offset is a sequence.
        """
        parameters: dict[str, str | int] = {"limit": 1, "includeMetadata": "false"}
        parameters["offset"] = sequence - 1
        query = ServiceQuery(
            "v1/changefeed",
            parameters,
            decode_page,
            f"sequence {sequence}",
            absent=_NO_FIRST_VERSION,
        )
        rows = self._connection.get(query, stop=self._closed)
        return _logged(row for _, row in rows if row.sequence == sequence)


def _names(body: bytes) -> frozenset[str]:
    """Return the names in a list of data partitions; the case of its fields is ignored."""
    require_few_marks(body)
    try:
        listed = _OBJECTS.decode(body) if body else []
        fields = [{name.lower(): value for name, value in one.items()} for one in listed]
        return frozenset(str(one["partitionname"]) for one in fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        raise MalformedError("it is not a list of data partitions") from None


def _no_search(why: str) -> ServiceAnswerError:
    return ServiceAnswerError(
        f"the DICOM service cannot be compared by {WHERE}: {why}. Nothing was compared"
    )


def _number(numbers: _Numbers) -> int | None:
    value = numbers.value[0] if numbers.value else None
    if isinstance(value, str):
        value = int(value) if value.strip().isascii() and value.strip().isdigit() else None
    return value if value is not None and 0 <= value <= MAX_INT64 else None


def _logged(rows: Iterable[Entry | Rejection]) -> pa.Table:
    """Return the entries among the rows as rows of `change`, without `filepath`."""
    return change_rows(row for row in rows if isinstance(row, Entry)).drop_columns("filepath")
