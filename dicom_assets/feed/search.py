"""What the service holds, by its search (QIDO-RS): how many instances and series in which study.

Here: the searches, their pages, and the few questions to the feed that explain a difference. What
is compared with what is decided in `tables.reconcile` and `tables.find`. A service may refuse to
search, or not know how: then the feed's own errors are raised, and nobody has looked.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Self

import httpx
import msgspec
import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import MAX_INT64, Entry, MalformedError, Uid, decode_page
from dicom_assets.feed.http.connection import Connection, ServiceQuery
from dicom_assets.feed.http.timeouts import DEFAULT_TIMEOUTS, Timeouts
from dicom_assets.feed.light_read import LightRead
from dicom_assets.feed.listing import Listing
from dicom_assets.schema import CHANGE
from dicom_assets.window import Window, datetime_of

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

PAGE_STUDIES: Final = 200
WHERE: Final = "the search for studies (QIDO-RS)"
_COLUMNS: Final = [name for name in CHANGE.names if name != "filepath"]
# As in the feed: one page without a new study may be studies that moved while they were listed.
_MOST_STALE_PAGES: Final = 2
_CONNECTIONS: Final = 4
# The attribute that names one at each level, and those that count what is in it.
_STUDY, _STUDY_SERIES, _STUDY_INSTANCES = "0020000D", "00201206", "00201208"


class Related(NamedTuple):
    """How much a study holds; None where the service does not say."""

    instances: int
    series: int | None


class _Uids(msgspec.Struct):
    value: Annotated[list[Uid], msgspec.Meta(min_length=1)] = msgspec.field(name="Value")


class _Numbers(msgspec.Struct):
    # Services send IS as a number or as a text.
    value: list[int | str | None] = msgspec.field(name="Value", default_factory=list)


class _Study(msgspec.Struct):
    uid: _Uids = msgspec.field(name=_STUDY)
    instances: _Numbers = msgspec.field(name=_STUDY_INSTANCES, default_factory=_Numbers)
    series: _Numbers = msgspec.field(name=_STUDY_SERIES, default_factory=_Numbers)


_PAGE: Final = msgspec.json.Decoder(list[_Study])
_ANY: Final = msgspec.json.Decoder(list[dict[str, Any]])
_FOUND: Final = {"series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}


class _Search(Connection):
    """A connection that takes DICOM JSON, the only form in which a search is answered."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(*arguments, **settings)
        self._client.headers["Accept"] = "application/dicom+json"


class StudyCounts:
    """The search of one DICOM service; a context manager that threads may share.

    `partition` is None for a service without data partitions everywhere in here.
    """

    def __init__(  # noqa: PLR0913 - one argument per setting
        self,
        url: str,
        *,
        api_version: int,
        batch_size: int,
        retry_seconds: float,
        credential: "TokenCredential | None" = None,
        transport: httpx.BaseTransport | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._root = f"v{api_version}"
        self._closed = threading.Event()

        def connect(kind: type[Connection]) -> Connection:
            return kind(
                url,
                retry_seconds=retry_seconds,
                connections=_CONNECTIONS,
                credential=credential,
                transport=transport,
                timeouts=timeouts,
                heard=lambda _: None,
            )

        self._search, self._feed = connect(_Search), connect(Connection)
        self._listing = Listing(self._feed, f"{self._root}/changefeed", batch_size, self._closed)

    def __enter__(self) -> Self:
        """Return the counts, ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """End every wait for the service, and close the connections."""
        self._closed.set()
        self._search.close()
        self._feed.close()

    def studies(self, partition: str | None) -> Iterator[Mapping[str, Related]]:
        """Yield the studies of a data partition by UID, page by page, each once.

        After a page without a new study the next is asked for all the same; the second such page
        in a row is the last.
        """
        met, offset, stale_pages = set[str](), 0, 0
        while stale_pages < _MOST_STALE_PAGES:
            page = self.page(partition, offset, PAGE_STUDIES)
            fresh = {uid: related for uid, related in page.items() if uid not in met}
            if fresh:
                yield fresh
            met |= fresh.keys()
            offset += len(page)
            stale_pages = 0 if fresh else stale_pages + 1

    def page(self, partition: str | None, offset: int, limit: int = 1) -> Mapping[str, Related]:
        """Return so many studies from the `offset`-th on; none beyond the last."""
        return self._ask(partition, {"limit": limit, "offset": offset})

    def study(self, partition: str | None, uid: str) -> Related | None:
        """Return what a study holds; None when the service does not have it."""
        found = self._ask(partition, {"StudyInstanceUID": uid, "limit": 2})
        if found and uid not in found:
            raise _no_search("it does not find a study by its UID")
        return found.get(uid)

    def _ask(
        self, partition: str | None, parameters: Mapping[str, str | int]
    ) -> Mapping[str, Related]:
        # Both fields in one parameter: PS3.18 8.3.4 allows that as well as one parameter each.
        fields = {"includefield": f"{_STUDY_INSTANCES},{_STUDY_SERIES}"}
        path = f"{self._path(partition)}/studies"
        rows = self._search.ask(
            ServiceQuery(path, fields | dict(parameters), _read_studies, WHERE), stop=self._closed
        )
        if any(instances is None for _, instances, _ in rows):
            raise _no_search("it does not say how many instances a study has")
        return {uid: Related(n, series) for uid, n, series in rows if n is not None}

    def _path(self, partition: str | None) -> str:
        return self._root if partition is None else f"{self._root}/partitions/{partition}"

    def holders(self, partition: str | None, level: str, uid: str) -> int:
        """Return how many `series` or `instances` (the level) with that UID the service has."""
        path = f"{self._path(partition)}/{level}"
        question = ServiceQuery(path, {_FOUND[level]: uid, "limit": 2}, _read_any, WHERE)
        return self._search.ask(question, stop=self._closed)

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry; None when the feed is empty."""
        rows = self._listing.first()
        return rows[0][1].ticks if rows else None

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the window's entries that can be used, in stretches, as the log would hold them."""
        read = LightRead(self._listing, None, progress)
        start = window.start
        while start < window.end:
            stretch = read.stretch(Window(start, window.end))
            yield _logged([row.row for row in stretch.rows.values() if isinstance(row.row, Entry)])
            start = stretch.window.end

    def entry(self, sequence: int) -> pa.Table:
        """Return the entry with a sequence, as the log would hold it; no row when there is none.

        Version 1 of the feed is asked, whose offset is a sequence.
        """
        parameters: dict[str, str | int] = {"offset": sequence - 1, "limit": 1}
        parameters["includeMetadata"] = "false"
        question = ServiceQuery("v1/changefeed", parameters, decode_page, f"sequence {sequence}")
        rows = self._feed.ask(question, stop=self._closed)
        return _logged([r for _, r in rows if isinstance(r, Entry) and r.sequence == sequence])


def _no_search(why: str) -> ServiceAnswerError:
    return ServiceAnswerError(
        f"the DICOM service cannot be compared with by {WHERE}: {why}. Nothing was compared"
    )


def _read_studies(body: bytes) -> list[tuple[str, int | None, int | None]]:
    # 204: nothing matches.
    try:
        studies = _PAGE.decode(body) if body else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedError("it is no list of studies") from None
    return [
        (study.uid.value[0], _number(study.instances), _number(study.series)) for study in studies
    ]


def _read_any(body: bytes) -> int:
    try:
        return len(_ANY.decode(body)) if body else 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedError("it is no list of DICOM objects") from None


def _number(given: _Numbers) -> int | None:
    value = given.value[0] if given.value else None
    if isinstance(value, str):
        value = int(value) if value.strip().isascii() and value.strip().isdigit() else None
    return value if value is not None and 0 <= value <= MAX_INT64 else None


def _logged(entries: list[Entry]) -> pa.Table:
    rows = [
        {
            "sequence": e.sequence,
            "partitionName": e.partition,
            "studyinstanceuid": e.study,
            "seriesinstanceuid": e.series,
            "sopinstanceuid": e.sop,
            "action": e.action,
            "timestamp": datetime_of(e.ticks),
            "timestamp_ticks": e.ticks,
            "state": e.state,
        }
        for e in entries
    ]
    return pa.Table.from_pylist(rows, schema=CHANGE.arrow(_COLUMNS))
