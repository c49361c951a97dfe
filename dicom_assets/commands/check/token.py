"""Findings about a token, or about the lack of one, without the token itself.

Shown are the claims for the audience (aud), the identity (appid or azp, oid), the tenant (tid) and
the end of validity. Azure's texts may name users and addresses, so only the class of the error and
Entra's number are printed.
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

CLAIMS: Final = ("aud", "appid", "azp", "oid", "tid")
_PLAIN: Final = re.compile(r"[\w.:/@-]{1,120}", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Microsoft Entra's refusals of a token, by their numbers.
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
# ASP.NET's reasons for refusing a token (error_description of WWW-Authenticate), by patterns.
_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "issuer|tenant": (
        "it is of another tenant",
        "sign in to the tenant of the service: AZURE_TENANT_ID, or `az login --tenant`",
    ),
    "audience": (
        "it is for another audience",
        "is DICOM_SERVICE_URL a DICOM service, in the cloud in which the identity signs in?",
    ),
    "expired|lifetime|not valid before|not yet": (
        "by the service's clock it is not valid now",
        CLOCK_REMEDY,
    ),
}


def class_of(credential: "TokenCredential") -> str:
    """Return the class of a credential; of a chain, also the class in it that gave the token."""
    inner = getattr(credential, "_successful_credential", None)
    name = type(credential).__name__
    return name if inner is None else f"{name} ({class_of(inner)})"


def explain_absence(credential: "TokenCredential", error: BaseException) -> Finding:
    """Return the reason for which a credential gave no token, as a red finding."""
    from azure.core.exceptions import ClientAuthenticationError  # half a second

    text, name = str(error), class_of(credential)
    number = re.search(r"AADSTS(\d+)", text)
    if number is None:
        refused = isinstance(error, ClientAuthenticationError)
        sources = "a managed identity, the variables AZURE_…, or `az login`"
        remedy = f"{NO_IDENTITY.remedy}: {sources}" if refused else NO_TOKEN.remedy
        return red(f"{name} gave no token ({type(error).__name__})", remedy)
    inner = re.findall(r"^\s*(\w+Credential)\b", text, re.MULTILINE)
    where = f"{name} ({inner[-1]})" if inner else name
    odd = ("Microsoft Entra refused", f"look up {number[0]} in Microsoft Entra's documentation")
    reason, remedy = _ENTRA.get(number[1], odd)
    return red(f"{where} gave no token: {reason} ({number[0]})", remedy)


def check_token(
    credential: "TokenCredential", token: "AccessToken", scope: str, now: datetime
) -> Finding:
    """Red unless a token is for the scope and valid now; the finding has its claims."""
    claims, wanted = claims_of(token.token), scope.removesuffix("/.default")
    shown = ", ".join(f"{key} {value}" for key, value in claims.items())
    ends = datetime.fromtimestamp(token.expires_on, UTC)
    whole = f"{shown or 'its claims cannot be read'}, exp {ends:%Y-%m-%dT%H:%M:%SZ}"
    facts = f"from {class_of(credential)}: {whole}"
    audience = claims.get("aud", wanted).rstrip("/")
    # Entra's newer tokens have the number of the service's application for its address.
    if audience != wanted and not _GUID.fullmatch(audience):
        return red(f"{facts}; it is for another audience", f"a token for {wanted} is needed")
    if ends <= now:
        return red(f"{facts}; it has expired", f"{CLOCK_REMEDY}, or sign in anew")
    return ok(facts)


def claims_of(token: str) -> dict[str, str]:
    """Return the claims that may be shown; none when the token is no JSON web token."""
    try:
        body = token.split(".")[1]
        decoded = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    claims = decoded if isinstance(decoded, dict) else {}
    texts = {key: claims[key] for key in CLAIMS if isinstance(claims.get(key), str)}
    return {key: text for key, text in texts.items() if _PLAIN.fullmatch(text)}


def explain_refusal(challenge: str) -> Finding:
    """Return the reason for which the service refuses a token, by the challenge of its answer."""
    for pattern, (reason, remedy) in _REFUSALS.items():
        if re.search(pattern, challenge, re.IGNORECASE):
            return red(f"the service refuses the token: {reason}", remedy)
    return red(
        "the service refuses the token, and does not say why",
        "tid in the line `token` is needed of the service's tenant; else see the line `clock`",
    )
