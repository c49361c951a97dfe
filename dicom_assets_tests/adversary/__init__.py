"""The emulator as an adversary: what can go wrong between a client and a DICOM service.

`plan` says which request gets which fault, and tells what was done; the kinds of faults are in
`answers` (refusals, bodies), `pages` (rows), `entries` (single entries), `operations` (the archive
moves) and `wire` (below HTTP). `seeded` makes plans by chance, `hostile` has entries that no
service should send, `middleware` puts a plan around an application. All is importable from here.
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
