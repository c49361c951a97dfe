"""Tokens over HTTP: who is answered, for how long, and what the feed does meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import Faults, Rule, Status, breakable, serve
from dicom_assets_tests.adversary.tokens import KnownTokens, Token, guard_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Watch:
    """A clock that moves when it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        """The time it shows."""
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    """The clock of the tokens."""
    return Watch()


@pytest.fixture
def tokens(watch: Watch) -> KnownTokens:
    """None that is known, yet."""
    return KnownTokens(clock=watch)


@pytest.fixture
def guarded(tokens: KnownTokens, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a service that asks for tokens, and may fail besides."""
    archive = Archive(tmp_path)
    application = breakable(archive, Faults(), tokens=tokens)
    with (
        serve(application) as running,
        httpx.Client(base_url=running.url, headers={"authorization": "bearer one"}) as client,
    ):
        yield client
    archive.close()


def status(client: httpx.Client, path: str = "/v2/changefeed") -> int:
    """The status of a request."""
    return client.get(path).status_code


def test_every_route_of_the_service_is_guarded(guarded: httpx.Client, tokens: KnownTokens) -> None:
    """The feed, the headers, searching, the index; the admin's routes are not the service's."""
    paths = ("/v2/changefeed", "/v1/changefeed/latest", "/v2/studies/1.2/metadata", "/v2/studies")
    assert [status(guarded, path) for path in (*paths, "/")] == [401] * 5
    assert guarded.delete("/v2/studies/1.2").status_code == 401
    assert status(guarded, "/admin/faults") == 200
    tokens.add("one")
    assert [status(guarded, path) for path in (*paths, "/")] == [200, 204, 404, 204, 200]
    assert tokens.answered == {401: 6, 200: 5}


def test_a_token_expires_after_requests(guarded: httpx.Client, tokens: KnownTokens) -> None:
    """Two are answered; given anew, two more are."""
    for _ in range(2):
        tokens.add(Token("one", requests=2))
        assert [status(guarded) for _ in range(4)] == [200, 200, 401, 401]


def test_a_token_expires_in_time(guarded: httpx.Client, tokens: KnownTokens, watch: Watch) -> None:
    """Until its seconds are over, counted from when it was given."""
    watch.seconds = 100.0
    tokens.add(Token("one", seconds=60))
    assert status(guarded) == 200
    watch.seconds = 159.9
    assert status(guarded) == 200
    watch.seconds = 160.0
    assert status(guarded) == 401
    tokens.add("two")
    assert guarded.get("/v2/changefeed", headers={"authorization": "Bearer two"}).is_success


def test_the_role_comes_after_the_token(guarded: httpx.Client, tokens: KnownTokens) -> None:
    """A token without the role that has expired is a bad token."""
    tokens.add(Token("one", can_read=False, requests=1))
    assert [status(guarded), status(guarded)] == [403, 401]


def test_a_gateway_fails_before_anybody_looks_at_a_token(
    guarded: httpx.Client, tokens: KnownTokens
) -> None:
    """Faults are outermost: a refused request may be a 503 as well."""
    plan = {"rules": [{"fault": {"kind": "status", "status": 503}, "times": 1}]}
    assert guarded.put("/admin/faults", json=plan).is_success
    assert [status(guarded), status(guarded)] == [503, 401]
    assert tokens.answered == {401: 1}
    assert Rule(Status(503)).fault == Status(503)


def test_refusals_name_the_versions_too(guarded: httpx.Client) -> None:
    """The headers of every answer of the service are there."""
    assert guarded.get("/v2/changefeed").headers["api-supported-versions"] == "1, 2"


def test_tokens_may_be_texts(tmp_path: Path) -> None:
    """A list of texts will do, and none at all is nobody's."""
    for tokens, expected in ((["one", "two"], 200), ([], 401)):
        archive = Archive(tmp_path)
        with server.start(create_application(archive, middleware=[guard_of(tokens)])) as running:
            bearer = {"authorization": "Bearer two"}
            answer = httpx.get(f"{running.url}/v2/changefeed", headers=bearer)
        assert answer.status_code == expected
        archive.close()
