"""The service's routes over HTTP, in versions 1 and 2, with data partitions.

Here: all routes, and the handlers that need the archive alone (metadata, delete, operations). Feed,
store, search and bulk update have modules of their own (`feed`, `stow`, `qido`, `updates`).

`create_application` takes ASGI middleware, outermost first: the one seam by which a test sees or
changes requests and answers.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from dicom_assets.emulator import feed, qido, stow, updates
from dicom_assets.emulator.archive import (
    MICROSOFT_DEFAULT,
    Archive,
    NotStored,
    is_partition,
    is_uid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SUPPORTED_VERSIONS: Final = "1, 2"

_DICOM_JSON: Final = {"content-type": "application/dicom+json"}
_JSON: Final = {"content-type": "application/json; charset=utf-8"}
_LEVELS: Final = (
    "/studies/{study}",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances/{instance}",
)
_SEARCHED: Final = {
    "studies": qido.SearchLevel.STUDY,
    "series": qido.SearchLevel.SERIES,
    "instances": qido.SearchLevel.INSTANCE,
}
_INDEX: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>DICOM service emulator</title>
<h1>A DICOM service on this machine</h1>
<p>It behaves like the DICOM service of Azure Health Data Services, as far as storing, deleting,
bulk updating, searching, reading metadata and the change feed go. Nothing here leaves this
machine.</p>
<ul>
<li><a href="v2/changefeed?includeMetadata=false">The change feed</a>,
<a href="v2/changefeed">with metadata</a></li>
<li><a href="v2/changefeed/latest">The newest entry</a></li>
</ul>
<p>Store with <code>POST v2/studies</code>, delete with <code>DELETE v2/studies/{study}</code>.</p>
</html>
"""


class _VersionConvertor(Convertor[int]):
    """`v1` and `v2` in a path."""

    regex = "v[12]"

    def convert(self, value: str) -> int:
        """Return the number of the version."""
        return int(value[1:])

    def to_string(self, value: int) -> str:
        """Return the version as a path has it."""
        return f"v{value}"


register_url_convertor("api_version", _VersionConvertor())


class _SupportedVersions:
    """An ASGI middleware that names the supported versions in every answer, as the service does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["api-supported-versions"] = SUPPORTED_VERSIONS
            await send(message)

        await self.app(scope, receive, send_named)


def create_application(archive: Archive, *, middleware: Sequence[Middleware] = ()) -> Starlette:
    """Return the ASGI application that serves the archive, with `middleware` before it."""
    application = Starlette(
        routes=[Route("/", _index), *_routes()],
        middleware=[*middleware, Middleware(_SupportedVersions)],
    )
    application.state.archive = archive
    return application


def _routes() -> list[Route]:
    root = "/{version:api_version}"
    # The feed is service-wide: there is no feed of one data partition.
    routes = [
        Route(f"{root}/changefeed", feed.changefeed),
        Route(f"{root}/changefeed/latest", feed.latest_entry),
        Route("/v2/operations/{operation}", _operation),
    ]
    for prefix in ("", "/partitions/{partition}"):
        update = Route(f"/v2{prefix}/studies/$bulkUpdate", _update, methods=["POST"])
        store = Route(f"{root}{prefix}/studies", _store, methods=["POST"])
        routes += [update, store, *_level_routes(root + prefix), *_search_routes(f"/v2{prefix}")]
    return routes


def _search_routes(root: str) -> list[Route]:
    return [
        Route(f"{root}{path}/{name}", partial(_search, level=level), methods=["GET"])
        for name, level in _SEARCHED.items()
        for path in ("", *_LEVELS)[:level]
    ]


def _level_routes(root: str) -> list[Route]:
    routes = [Route(f"{root}/studies/{{study}}", _store, methods=["POST"])]
    for level in _LEVELS:
        routes.append(Route(f"{root}{level}/metadata", _metadata))
        routes.append(Route(f"{root}{level}", _delete, methods=["DELETE"]))
    return routes


def _index(_request: Request) -> Response:
    return HTMLResponse(_INDEX)


def _operation(request: Request) -> Response:
    operation = _archive(request).operation(request.path_params["operation"])
    if operation is None:
        return _refused(404, "The operation is not known.")
    return Response(json.dumps(updates.operation_status(operation)), headers=_JSON)


def _metadata(request: Request) -> Response:
    """Answer the live headers under a study, a series or an instance."""
    return _at_level(request, _metadata_under)


def _metadata_under(archive: Archive, uids: list[str], partition: str) -> Response:
    headers = archive.headers(*uids, partition=partition)
    if not headers:
        return _refused(404, "The specified resource is not found.")
    return Response("[" + ",".join(headers) + "]", headers=_DICOM_JSON)


def _delete(request: Request) -> Response:
    """Delete all that lives under a study, a series or an instance."""
    return _at_level(request, _delete_under)


def _delete_under(archive: Archive, uids: list[str], partition: str) -> Response:
    try:
        archive.delete(*uids, partition=partition)
    except NotStored:
        return _refused(404, "The specified resource is not found.")
    return Response(status_code=204)


def _at_level(request: Request, answer: Callable[[Archive, list[str], str], Response]) -> Response:
    """Return the answer for the UIDs in the path, 400 if one of them is no UID."""
    names = ("study", "series", "instance")
    uids = [request.path_params[name] for name in names if name in request.path_params]
    if not all(map(is_uid, uids)) or not is_partition(_partition(request)):
        return _refused(400, "An identifier in the path is invalid.")
    return answer(_archive(request), uids, _partition(request))


def _search(request: Request, level: qido.SearchLevel) -> Response:
    """Answer the studies, series or instances that match, or 204 without a body."""
    return _at_level(request, partial(_search_under, request, level))


def _search_under(
    request: Request, level: qido.SearchLevel, archive: Archive, uids: list[str], partition: str
) -> Response:
    scope = qido.SearchScope(partition, tuple(uids))
    try:
        query = qido.parse_query(level, scope, request.query_params.multi_items())
    except feed.InvalidParameter as problem:
        return _refused(400, str(problem))
    datasets = qido.search(archive, scope, query)
    if not datasets:
        return Response(status_code=204)
    return Response(json.dumps(datasets, ensure_ascii=False), headers=_DICOM_JSON)


async def _store(request: Request) -> Response:
    target = stow.StoreTarget(
        _partition(request), request.path_params.get("study"), _studies_url(request)
    )
    if not is_partition(target.partition) or not (target.study is None or is_uid(target.study)):
        return _refused(400, "An identifier in the path is invalid.")
    try:
        files = stow.files_of(request.headers.get("content-type", ""), await request.body())
    except stow.UnsupportedBody:
        return _refused(415, "The content type is not supported.")
    except stow.MalformedBody:
        return _refused(400, "The body is not a multipart body.")
    stored = await run_in_threadpool(stow.store, _archive(request), target, files)
    return _dicom_json(stored.status, stored.dataset)


async def _update(request: Request) -> Response:
    try:
        update = updates.parse_update(json.loads(await request.body()))
    except ValueError:
        return _refused(400, "The body is not JSON.")
    except updates.InvalidUpdate as problem:
        if problem.tags:
            return _dicom_json(400, problem.dataset)
        return _refused(400, f"{problem}.")
    operation = await run_in_threadpool(
        updates.perform_update, _archive(request), _partition(request), update
    )
    href = f"{request.base_url}v2/operations/{operation.id}"
    body = json.dumps({"id": operation.id, "href": href})
    return Response(body, status_code=202, headers={**_JSON, "location": href})


def _dicom_json(status: int, dataset: dict[str, Any] | None) -> Response:
    if dataset is None:
        return Response(status_code=status)
    return Response(json.dumps(dataset), status_code=status, headers=_DICOM_JSON)


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(why, status_code=status)


def _archive(request: Request) -> Archive:
    archive: Archive = request.app.state.archive
    return archive


def _partition(request: Request) -> str:
    name: str = request.path_params.get("partition", MICROSOFT_DEFAULT)
    return name


def _studies_url(request: Request) -> str:
    """Return the URL of the studies that a request stores into, for the links in the answer."""
    named = "partition" in request.path_params
    prefix = f"partitions/{_partition(request)}/" if named else ""
    return f"{request.base_url}v{request.path_params['version']}/{prefix}studies"
