"""The service's routes over HTTP, in versions 1 and 2, with data partitions.

Here: all routes, and the handlers that need the archive alone (metadata, delete, operations). Feed,
store, search and bulk update have modules of their own (`feed`, `stow`, `qido`, `updates`).

`create_application` takes ASGI middleware, outermost first: the one seam by which a test sees or
changes requests and answers.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from dicom_assets.emulator import feed, qido, stow, updates
from dicom_assets.emulator.archive import MICROSOFT_DEFAULT, NotStored, is_partition, is_uid
from dicom_assets.emulator.doors import Doors, spooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dicom_assets.emulator.archive import Archive

SUPPORTED_VERSIONS: Final = "1, 2"

_DICOM_JSON: Final = {"content-type": "application/dicom+json"}
_JSON: Final = {"content-type": "application/json; charset=utf-8"}
_LEVELS: Final = (
    "/studies/{study}",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances/{instance}",
)
_INDEX: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>DICOM service emulator</title>
<h1>A DICOM service on this machine</h1>
<p>It behaves like the DICOM service of Azure Health Data Services, as far as storing, deleting,
bulk updating, searching, reading metadata and the change feed go. Nothing here leaves this
machine.</p>
<p>It holds {:,} studies, {:,} series and {:,} instances. The change feed has {:,} entries.</p>
<ul>
<li><a href="v2/changefeed?includeMetadata=false">The change feed</a>,
<a href="v2/changefeed">with metadata</a></li>
<li><a href="v2/changefeed/latest">The newest entry</a></li>
</ul>
<p>Store with <code>POST v2/studies</code>, delete with <code>DELETE v2/studies/{{study}}</code>,
search (QIDO-RS) with <code>GET v2/studies</code>, <code>v2/series</code>,
<code>v2/instances</code>, and below a study or a series. Files are not kept: there is no
<code>GET v2/studies/{{study}}</code>.</p>
</html>
"""


class _VersionConvertor(Convertor[int]):
    """`v1` and `v2` in a path."""

    regex = "v[12]"

    def convert(self, value: str) -> int:
        return int(value[1:])

    def to_string(self, value: int) -> str:
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


def create_application(
    archive: Archive, *, middleware: Sequence[Middleware] = (), hosts: Sequence[str] = ()
) -> Starlette:
    """Return the ASGI application that serves the archive, with `middleware` before it.

    It answers to the names of this machine, and to `hosts`.
    """
    named = [*middleware, Middleware(_SupportedVersions), Middleware(Doors, hosts)]
    application = Starlette(routes=_routes(), middleware=named)
    application.state.archive = archive
    return application


def _routes() -> list[Route]:
    root, searched = "/{version:api_version}", ("studies", "series", "instances")
    # The feed is service-wide: there is no feed of one data partition.
    routes = [
        Route("/", _index),
        Route(f"{root}/changefeed", feed.changefeed),
        Route(f"{root}/changefeed/latest", feed.latest_entry),
        Route("/v2/operations/{operation}", _operation),
        Route(f"{root}/partitions", _partitions),
    ]
    for prefix in ("", "/partitions/{partition}"):
        routes += [
            Route(f"/v2{prefix}/studies/$bulkUpdate", _update, methods=["POST"]),
            Route(f"{root}{prefix}/studies", _store, methods=["POST"]),
            Route(f"{root}{prefix}/studies/{{study}}", _store, methods=["POST"]),
        ]
        for path in _LEVELS:
            routes.append(Route(f"{root}{prefix}{path}/metadata", _metadata))
            # No file is kept, so the address of a study (`wadoRsUri`) gives its headers too.
            routes.append(Route(f"{root}{prefix}{path}", _metadata, methods=["GET"]))
            routes.append(Route(f"{root}{prefix}{path}", _delete, methods=["DELETE"]))
        routes += [
            Route(f"/v2{prefix}{path}/{name}", partial(_search, level=level), methods=["GET"])
            for level, name in zip(qido.SearchLevel, searched, strict=True)
            for path in ("", *_LEVELS)[:level]
        ]
    return routes


def _index(request: Request) -> Response:
    return HTMLResponse(_INDEX.format(*_archive(request).counts()))


def _partitions(request: Request) -> Response:
    """Answer the data partitions, or 400 as the service does that was made without them."""
    names = _archive(request).partitions()
    if names == [MICROSOFT_DEFAULT]:
        raise HTTPException(400, "The data partitions feature is disabled.")
    listed = [{"PartitionKey": n, "PartitionName": name} for n, name in enumerate(names, start=1)]
    return Response(json.dumps(listed), headers=_JSON)


def _operation(request: Request) -> Response:
    operation = _archive(request).operation(request.path_params["operation"])
    if operation is None:
        raise HTTPException(404, "The operation is not known.")
    return Response(json.dumps(updates.operation_status(operation)), headers=_JSON)


def _metadata(request: Request) -> Response:
    """Answer the live headers under a study, a series or an instance."""
    uids, partition = _path_names(request)
    headers = _archive(request).headers(*uids, partition=partition)
    if not headers:
        raise HTTPException(404, "The specified resource is not found.")
    return Response("[" + ",".join(headers) + "]", headers=_DICOM_JSON)


def _delete(request: Request) -> Response:
    """Delete all that lives under a study, a series or an instance."""
    uids, partition = _path_names(request)
    try:
        _archive(request).delete(*uids, partition=partition)
    except NotStored:
        raise HTTPException(404, "The specified resource is not found.") from None
    return Response(status_code=204)


def _search(request: Request, level: qido.SearchLevel) -> Response:
    """Answer the studies, series or instances that match, or 204 without a body."""
    uids, partition = _path_names(request)
    scope = qido.SearchScope(partition, uids)
    query = qido.parse_query(level, scope, request.query_params.multi_items())
    datasets = qido.search(_archive(request), scope, query)
    if not datasets:
        return Response(status_code=204)
    return Response(json.dumps(datasets, ensure_ascii=False), headers=_DICOM_JSON)


async def _store(request: Request) -> Response:
    uids, partition = _path_names(request)
    # For the links in the answer.
    prefix = f"partitions/{partition}/" if "partition" in request.path_params else ""
    studies_url = f"{request.base_url}v{request.path_params['version']}/{prefix}studies"
    target = stow.StoreTarget(partition, uids[0] if uids else None, studies_url)
    archive, kind = _archive(request), request.headers.get("content-type", "")
    stow.require_kind(kind)
    async with spooled(request, stow.MAX_STORE_BYTES, archive.path.parent) as body:
        files = await run_in_threadpool(stow.files_of, kind, body)
        stored = await run_in_threadpool(stow.store, archive, target, files)
    if stored.dataset is None:
        return Response(status_code=stored.status)
    return Response(json.dumps(stored.dataset), status_code=stored.status, headers=_DICOM_JSON)


async def _update(request: Request) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind.strip().lower() != "application/json":
        raise HTTPException(415, "The content type is not application/json.")
    archive = _archive(request)
    async with spooled(request, updates.MAX_UPDATE_BYTES, archive.path.parent) as body:
        body.seek(0)
        content = body.read()
    try:
        update = updates.parse_update(json.loads(content))
    except ValueError:
        raise HTTPException(400, "The body is not JSON.") from None
    except updates.InvalidUpdate as problem:
        if problem.tags:
            return Response(json.dumps(problem.dataset), status_code=400, headers=_DICOM_JSON)
        raise HTTPException(400, f"{problem}.") from None
    operation = await run_in_threadpool(
        updates.perform_update, archive, _partition(request), update
    )
    href = f"{request.base_url}v2/operations/{operation.id}"
    answer = json.dumps({"id": operation.id, "href": href})
    return Response(answer, status_code=202, headers={**_JSON, "location": href})


def _archive(request: Request) -> Archive:
    archive: Archive = request.app.state.archive
    return archive


def _partition(request: Request) -> str:
    name: str = request.path_params.get("partition", MICROSOFT_DEFAULT)
    return name


def _path_names(request: Request) -> tuple[tuple[str, ...], str]:
    """Return the UIDs and the data partition in the path. Raise 400 if one of them is invalid."""
    names = ("study", "series", "instance")
    given = (request.path_params.get(name) for name in names)
    uids = tuple(uid.rstrip(" ") for uid in given if uid is not None)
    partition = _partition(request)
    if not all(map(is_uid, uids)) or not is_partition(partition):
        raise HTTPException(400, "An identifier in the path is invalid.")
    return uids, partition
