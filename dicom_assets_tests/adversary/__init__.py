"""The emulator as an adversary: faults between a client and a DICOM service, for tests only.

`breakable(archive, faults)` is the emulator's application with faults around it; `serve` gives it a
port. All is importable from here, but for `hostile` and `canary`.

`plan`: rules, which request gets which fault, and the log of faults done.
`exchange`: a request and its answer, as a fault handles them.
`answers`: refusals, delays and spoiled bodies.
`pages`: rows missing, doubled or in another order.
`entries`: single entries hidden, poisoned or replaced.
`operations`: changes of the archive between two pages.
`wire`: faults below HTTP, written to the connection itself.
`seeded`: plans by chance, from a seed.
`hostile`: entries that no service should send.
`middleware`: a plan around the application, and the route `/admin/faults`.
`tokens`: bearer tokens, 401 and 403; `uids`: changes of UIDs, as newer services do them.
`canary`: headers in which every text is a mark.
"""

from dicom_assets_tests.adversary.answers import (
    Bomb,
    Clock,
    ContentType,
    CutJson,
    Html,
    Latency,
    NoContent,
    Status,
    Trailing,
    Verbatim,
    WrongShape,
    cancelled,
    invalid_parameter,
)
from dicom_assets_tests.adversary.entries import Hide, Override, Poison
from dicom_assets_tests.adversary.exchange import Fault
from dicom_assets_tests.adversary.middleware import Adversary, admin_routes, breakable, serve
from dicom_assets_tests.adversary.operations import Call, Operate
from dicom_assets_tests.adversary.pages import (
    Again,
    Duplicate,
    Empty,
    Gap,
    Longer,
    Shift,
    Shorter,
    Shuffle,
)
from dicom_assets_tests.adversary.plan import AnyFault, Faults, Hit, OneOf, Plan, Rule
from dicom_assets_tests.adversary.seeded import LOUD, QUIET, random_faults
from dicom_assets_tests.adversary.wire import CutChunked, CutGzip, Drip, Reset, ShortLength, Stall

__all__ = [
    "LOUD",
    "QUIET",
    "Adversary",
    "Again",
    "AnyFault",
    "Bomb",
    "Call",
    "Clock",
    "ContentType",
    "CutChunked",
    "CutGzip",
    "CutJson",
    "Drip",
    "Duplicate",
    "Empty",
    "Fault",
    "Faults",
    "Gap",
    "Hide",
    "Hit",
    "Html",
    "Latency",
    "Longer",
    "NoContent",
    "OneOf",
    "Operate",
    "Override",
    "Plan",
    "Poison",
    "Reset",
    "Rule",
    "Shift",
    "ShortLength",
    "Shorter",
    "Shuffle",
    "Stall",
    "Status",
    "Trailing",
    "Verbatim",
    "WrongShape",
    "admin_routes",
    "breakable",
    "cancelled",
    "invalid_parameter",
    "random_faults",
    "serve",
]
