"""The change feed over HTTP: its parameters, its pages, its refusals.

Here: `/changefeed` and `/changefeed/latest` in versions 1 and 2, and the JSON form of an entry.
Not here: the state and metadata of an entry (`archive`, which has them as they are now).

A page is spliced together from texts; headers are stored as JSON and pass through unread.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response

from dicom_assets.emulator import ticks
from dicom_assets.emulator.archive import INT64_MAX, Archive, ArchiveEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_WHOLE: Final = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_JSON: Final = {"content-type": "application/json; charset=utf-8"}


class Limit(NamedTuple):
    """The default of `limit` and its maximum."""

    default: int
    greatest: int


LIMITS: Final = {1: Limit(10, 100), 2: Limit(100, 200)}


class InvalidParameter(HTTPException):
    """A query parameter that the service refuses."""

    def __init__(self, name: str, why: str) -> None:
        """Make the message the body of the service's answer."""
        super().__init__(400, f"The query parameter '{name}' is invalid. {why}")


class PageRequest(NamedTuple):
    """Parameters of a request for a page; times in ticks, None for open."""

    offset: int
    limit: int
    start: int | None
    end: int | None
    header: bool


def changefeed(request: Request) -> Response:
    """Answer a page of the feed. Offset and limit are rows in version 2, sequences in version 1."""
    archive: Archive = request.app.state.archive
    version = request.path_params["version"]
    page = page_request(_parameters(request), version)
    if version == 1:
        after, width = page.offset, page.limit
        entries = archive.entries_by_sequence(after=after, width=width, header=page.header)
    else:
        entries = archive.entries(**page._asdict())
    return Response("[" + ",".join(map(entry_text, entries)) + "]", headers=_JSON)


def latest_entry(request: Request) -> Response:
    """Answer the newest entry, 204 when the feed has none."""
    header = _boolean(_parameters(request), "includeMetadata", default=True)
    archive: Archive = request.app.state.archive
    by_sequence = request.path_params["version"] == 1
    entry = archive.latest(by_sequence=by_sequence, header=header)
    if entry is None:
        return Response(status_code=204)
    return Response(entry_text(entry), headers=_JSON)


def entry_text(entry: ArchiveEntry) -> str:
    """Return the entry in JSON. A missing metadata or file path has no key, rather than null.

    Names and UIDs were checked when they were stored, and hold nothing that JSON escapes.
    """
    path = "" if entry.file_path is None else f'"filePath":{json.dumps(entry.file_path)},'
    metadata = "" if entry.header is None else f',"metadata":{entry.header}'
    return (
        f'{{"sequence":{entry.sequence},"partitionName":"{entry.partition}",{path}'
        f'"studyInstanceUid":"{entry.study}","seriesInstanceUid":"{entry.series}",'
        f'"sopInstanceUid":"{entry.sop}","action":"{entry.action}",'
        f'"timestamp":"{ticks.to_text(entry.ticks)}","state":"{entry.state}"{metadata}}}'
    )


def page_request(parameters: Mapping[str, str], version: int) -> PageRequest:
    """Return the page request in the parameters (lower-case names). Version 1 has no times."""
    limit = LIMITS[version]
    page = PageRequest(
        offset=integer_parameter(parameters, "Offset", default=0, least=0, greatest=INT64_MAX),
        limit=integer_parameter(
            parameters, "Limit", default=limit.default, least=1, greatest=limit.greatest
        ),
        start=_time(parameters, "StartTime") if version > 1 else None,
        end=_time(parameters, "EndTime") if version > 1 else None,
        header=_boolean(parameters, "includeMetadata", default=True),
    )
    if page.start is not None and page.end is not None and page.end <= page.start:
        raise InvalidParameter("EndTime", "The end of a window must be after its start.")
    return page


def _parameters(request: Request) -> dict[str, str]:
    """Return the parameters by lower-case name, the first of several with one name."""
    pairs = reversed(request.query_params.multi_items())
    return {name.lower(): value for name, value in pairs}


def integer_parameter(
    parameters: Mapping[str, str], name: str, *, default: int, least: int, greatest: int
) -> int:
    """Return the number in a parameter (lower-case names).

    Raise InvalidParameter unless it is whole and within the limits.
    """
    text = parameters.get(name.lower())
    if text is None:
        return default
    if _WHOLE.fullmatch(text) is None:
        raise InvalidParameter(name, f"The value is not valid for {name}.")
    # int() refuses to read thousands of digits; so does an int64.
    number = int(text) if len(text) <= len(str(INT64_MAX)) + 2 else INT64_MAX + 1
    if not least <= number <= greatest:
        raise InvalidParameter(name, f"The field {name} must be between {least} and {greatest}.")
    return number


def _time(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name.lower())
    if text is None:
        return None
    try:
        return ticks.from_text(text)
    except ValueError:
        raise InvalidParameter(name, "A date, a time and a time zone are needed.") from None


def _boolean(parameters: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = parameters.get(name.lower())
    if text is None:
        return default
    value = {"true": True, "false": False}.get(text.strip().lower())
    if value is None:
        raise InvalidParameter(name, f"The value is not valid for {name}.")
    return value
