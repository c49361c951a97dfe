"""What a token says of itself, and why there is none: for people, without the token.

Shown are the claims that tell for whom it is (aud), whose it is (appid or azp, oid), of which
tenant (tid) and until when. Azure's texts may name users and addresses: of them only the class of
the error and Entra's number are told.
"""

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from dicom_assets.commands.check.handshake import CLOCK_REMEDY
from dicom_assets.commands.check.probe import Finding, ok, red
from dicom_assets.feed.http.answers import NO_IDENTITY, NO_TOKEN

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

SHOWN: Final = ("aud", "appid", "azp", "oid", "tid")
_PLAIN: Final = re.compile(r"[\w.:/@-]{1,120}", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(r"^\s*(\w+Credential)\b", re.MULTILINE)
_NUMBER: Final = re.compile(r"AADSTS(\d+)")
_IDENTITIES: Final = "a managed identity, the variables AZURE_…, or `az login`"
# What Microsoft Entra says when it gives no token, by its number.
_ENTRA: Final[Mapping[str, tuple[str, str]]] = {
    "7000222": (
        "the client secret has expired",
        "make a new secret for the application, and set AZURE_CLIENT_SECRET to its value",
    ),
    "7000215": (
        "the client secret is wrong",
        "set AZURE_CLIENT_SECRET to the value of a secret of the application, not to its ID",
    ),
    "700027": (
        "the client certificate is not one of the application's, or has expired",
        "upload the certificate of AZURE_CLIENT_CERTIFICATE_PATH to the application, or renew it",
    ),
    "700016": (
        "the tenant does not know the application",
        "set AZURE_CLIENT_ID and AZURE_TENANT_ID to those of one application",
    ),
    "90002": ("there is no such tenant", "set AZURE_TENANT_ID to the tenant of the service"),
    "500011": (
        "the tenant does not know DICOM services",
        "set AZURE_TENANT_ID to the tenant in which the service is",
    ),
}
# What ASP.NET says of a token that it refuses (error_description of WWW-Authenticate).
_REFUSALS: Final = (
    (
        re.compile("issuer|tenant", re.IGNORECASE),
        "it is of another tenant",
        "sign in to the tenant of the service: AZURE_TENANT_ID, or `az login --tenant`",
    ),
    (
        re.compile("audience", re.IGNORECASE),
        "it is for another audience",
        "is DICOM_SERVICE_URL a DICOM service, in the cloud in which the identity signs in?",
    ),
    (
        re.compile("expired|lifetime|not valid before|not yet", re.IGNORECASE),
        "by the service's clock it is not valid now",
        CLOCK_REMEDY,
    ),
)
_SILENT: Final = (
    "the service refuses the token, and does not say why",
    "tid in the line `token` is needed of the service's tenant; else see the line `clock`",
)


def class_of(credential: "TokenCredential") -> str:
    """Return the class that gives the token; of a chain, also the one in it that did."""
    inner = getattr(credential, "_successful_credential", None)
    name = type(credential).__name__
    return name if inner is None else f"{name} ({class_of(inner)})"


def absent(credential: "TokenCredential", error: BaseException) -> Finding:
    """Return why a credential gave no token."""
    from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - half a second

    said, name = str(error), class_of(credential)
    number = _NUMBER.search(said)
    if number is None:
        refused = isinstance(error, ClientAuthenticationError)
        remedy = f"{NO_IDENTITY.remedy}: {_IDENTITIES}" if refused else NO_TOKEN.remedy
        return red(f"{name} gave no token ({type(error).__name__})", remedy)
    asked = _CREDENTIAL.findall(said)
    where = f"{name} ({asked[-1]})" if asked else name
    odd = ("Microsoft Entra refused", f"look up {number[0]} in Microsoft Entra's documentation")
    what, remedy = _ENTRA.get(number[1], odd)
    return red(f"{where} gave no token: {what} ({number[0]})", remedy)


def told(credential: "TokenCredential", token: "AccessToken", scope: str, now: datetime) -> Finding:
    """Return what a token for a scope says of itself."""
    claims, wanted = claims_of(token.token), scope.removesuffix("/.default")
    shown = ", ".join(f"{key} {value}" for key, value in claims.items())
    ends = datetime.fromtimestamp(token.expires_on, UTC)
    whole = f"{shown or 'its claims cannot be read'}, exp {ends:%Y-%m-%dT%H:%M:%SZ}"
    what = f"from {class_of(credential)}: {whole}"
    audience = claims.get("aud", wanted).rstrip("/")
    # Entra's newer tokens have the number of the service's application for its address.
    if audience != wanted and not _GUID.fullmatch(audience):
        return red(f"{what}; it is for another audience", f"a token for {wanted} is needed")
    if ends <= now:
        return red(f"{what}; it has expired", f"{CLOCK_REMEDY}, or sign in anew")
    return ok(what)


def claims_of(token: str) -> dict[str, str]:
    """Return the claims that may be shown; none when the token is no JSON web token."""
    try:
        body = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    held = said if isinstance(said, dict) else {}
    texts = {key: held[key] for key in SHOWN if isinstance(held.get(key), str)}
    return {key: text for key, text in texts.items() if _PLAIN.fullmatch(text)}


def refused(challenge: str) -> Finding:
    """Return why the service takes a token for none, by the challenge of its answer."""
    for pattern, what, remedy in _REFUSALS:
        if pattern.search(challenge):
            return red(f"the service refuses the token: {what}", remedy)
    return red(*_SILENT)
