"""Who gives tokens on this machine: a managed identity's endpoint, and a tenant that refuses."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dicom_assets.emulator import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

SECRET: Final = "canary-5ecret"
SIGNATURE: Final = "canary-51gnature"
AUDIENCE: Final = "https://dicom.healthcareapis.azure.com"
TENANT: Final = "ab1f708d-50f6-404c-a006-d71b2ac7a606"
CLIENT: Final = "6f1d2a52-9d63-4d0b-8f6a-3a6f0b7a1c11"
# MSAL asks no directory in the world about a tenant of this name.
STAND_ALONE_TENANT: Final = "adfs"


@dataclass
class Identity:
    """Gives tokens with these claims to whoever knows the secret; `give` is told of each."""

    claims: dict[str, object] = field(default_factory=lambda: {"aud": AUDIENCE, "tid": TENANT})
    give: Callable[[str], object] = lambda _: None
    # What the tenant answers an application: Entra's number and words.
    refusal: str = ""
    url: str = ""

    async def managed(self, request: Request) -> Response:
        """The endpoint of a managed identity, as App Service and Container Apps have it."""
        if request.headers.get("x-identity-header") != SECRET:
            return JSONResponse({"error": "unauthorized"}, 401)
        token = self._token()
        self.give(token)
        expires = str(int(time.time()) + 3_600)
        return JSONResponse({"access_token": token, "expires_on": expires, "token_type": "Bearer"})

    async def application(self, _: Request) -> Response:
        """The token endpoint of a tenant, which refuses."""
        said = {"error": "invalid_client", "error_description": self.refusal}
        return JSONResponse(said, 401)

    async def discovery(self, request: Request) -> Response:
        """Where the endpoints of the tenant are."""
        address = f"https://{request.headers['host']}/{STAND_ALONE_TENANT}"
        found = {"authorization_endpoint": f"{address}/authorize", "issuer": address}
        return JSONResponse({**found, "token_endpoint": f"{address}/oauth2/token"})

    def _token(self) -> str:
        claims: dict[str, Any] = {"appid": CLIENT, "oid": CLIENT, "upn": "PHI-doe", **self.claims}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"e30.{body}.{SIGNATURE}"


@contextmanager
def giving() -> Iterator[Identity]:
    """Tokens are given at `url`, over plain http."""
    identity = Identity()
    tenant = f"/{STAND_ALONE_TENANT}"
    routes = [
        Route("/msi/token", identity.managed),
        Route(f"{tenant}/.well-known/openid-configuration", identity.discovery),
        Route(f"{tenant}/oauth2/token", identity.application, methods=["POST"]),
    ]
    with server.start(Starlette(routes=routes)) as running:
        identity.url = running.url
        yield identity
