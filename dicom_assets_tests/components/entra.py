"""Who gives tokens: Entra ID, and the endpoint of a managed identity, on this machine.

Both give a token for whatever is asked for, to whoever knows the secret; what was asked is kept.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dicom_assets.emulator import server
from dicom_assets_tests.adversary.tokens import KnownTokens
from dicom_assets_tests.components import azurite
from dicom_assets_tests.support.tls import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

SECRET: Final = "canary-5ecret"
TENANT: Final = "ab1f708d-50f6-404c-a006-d71b2ac7a606"
CLIENT: Final = "6f1d2a52-9d63-4d0b-8f6a-3a6f0b7a1c11"
SERVICE: Final = "https://dicom.healthcareapis.azure.com"


class Entra:
    """Gives tokens, to managed identities and to applications."""

    def __init__(self, certificate: Path) -> None:
        """Tokens live for an hour."""
        self._asked: list[dict[str, str]] = []
        self.live(3_600.0)
        routes = [
            Route("/msi/token", self._managed),
            Route("/common/discovery/instance", self._discovery),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery),
            Route("/{tenant}/oauth2/v2.0/token", self._application, methods=["POST"]),
        ]
        self._running = server.start(Starlette(routes=routes))
        self._relay = Relay(self._running.url, certificate)

    def url(self) -> str:
        """Where a managed identity asks."""
        return f"{self._running.url}/msi/token"

    def authority(self) -> str:
        """Where an application asks, over https."""
        return self._relay.url

    def live(self, told: float, lives: float | None = None) -> None:
        """Tokens are said to live for so many seconds; and live for fewer, if that is given."""
        self._told, self._lives = told, told if lives is None else lives

    def asked(self) -> list[dict[str, str]]:
        """What was asked, in order: the kind of identity, and what it sent."""
        return list(self._asked)

    def audiences(self) -> list[str]:
        """For whom tokens were asked, in order."""
        return [_audience(asked) for asked in self._asked]

    def forget(self) -> None:
        """Nothing was asked, and tokens live for an hour."""
        self._asked.clear()
        self.live(3_600.0)

    async def _managed(self, request: Request) -> Response:
        """Answer as App Service and Container Apps do."""
        if request.headers.get("x-identity-header") != SECRET:
            return JSONResponse({"error": "unauthorized"}, 401)
        given = self._give({"kind": "managed", **request.query_params})
        return JSONResponse(given | {"expires_on": str(int(time.time() + self._told))})

    async def _application(self, request: Request) -> Response:
        """Answer as the token endpoint of a tenant, for a secret or a workload's own token."""
        sent = dict(parse_qsl((await request.body()).decode()))
        if SECRET not in {sent.get("client_secret"), sent.get("client_assertion")}:
            return JSONResponse({"error": "invalid_client"}, 401)
        kind = "secret" if "client_secret" in sent else "workload"
        given = self._give({"kind": kind, "tenant": request.path_params["tenant"], **sent})
        return JSONResponse(given | {"expires_in": int(self._told)})

    async def _discovery(self, request: Request) -> Response:
        """Tell where the endpoints of the tenant are, as MSAL asks before all else."""
        address = f"https://{request.headers['host']}/{TENANT}"
        found = {"authorization_endpoint": f"{address}/oauth2/v2.0/authorize"}
        found |= {"token_endpoint": f"{address}/oauth2/v2.0/token", "issuer": f"{address}/v2.0"}
        found |= {"tenant_discovery_endpoint": f"{address}/v2.0/.well-known/openid-configuration"}
        return JSONResponse({**found, "api-version": "1.1", "metadata": []})

    def _give(self, asked: dict[str, str]) -> dict[str, str]:
        self._asked.append(asked)
        made = azurite.token(_audience(asked), self._lives)
        return {"access_token": made, "resource": _audience(asked), "token_type": "Bearer"}


def _audience(asked: dict[str, str]) -> str:
    """For whom a token was asked; of several scopes the first is the service's."""
    scope = asked.get("resource") or asked["scope"].split()[0]
    return scope.removesuffix("/.default").rstrip("/")


class Guarded(KnownTokens):
    """The tokens that the DICOM service takes: each that was made for it, as long as it lives."""

    def _status(self, authorization: str) -> int:
        made = authorization.removeprefix("Bearer ")
        payload = made.split(".")[1] if made.count(".") == 2 else ""
        if not payload:
            return 401
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return 200 if claims["aud"] == SERVICE and claims["exp"] > time.time() else 401
