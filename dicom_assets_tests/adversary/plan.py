"""The plan: rules that give faults to requests, in Python or JSON, and the log of faults done.

A rule's chance depends on its seed and on the request (its line, and how often it was asked), not
on the order in which requests of several threads arrive: the same plan and the same client meet
the same faults again.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from dicom_assets_tests.adversary import answers, entries, operations, pages, wire
from dicom_assets_tests.adversary.exchange import GROUPS, PAGES, Answer, Asked, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dicom_assets_tests.adversary.exchange import Callback

Route = Literal[
    "any",
    "feed",
    "page",
    "light",
    "heavy",
    "latest",
    "metadata",
    "store",
    "delete",
    "update",
    "query",
]

_LOG_LENGTH: Final = 100_000


class OneOf(Fault, frozen=True):
    """One of the faults, chosen by the rule's seed anew for each request."""

    faults: tuple[AnyFault, ...]


AnyFault = (
    answers.Bomb
    | answers.Clock
    | answers.ContentType
    | answers.CutJson
    | answers.Html
    | answers.Latency
    | answers.NoContent
    | answers.Status
    | answers.Trailing
    | answers.Verbatim
    | answers.WrongShape
    | entries.Hide
    | entries.Override
    | entries.Poison
    | operations.Call
    | operations.Operate
    | pages.Again
    | pages.Duplicate
    | pages.Empty
    | pages.Gap
    | pages.Longer
    | pages.Shift
    | pages.Shorter
    | pages.Shuffle
    | wire.CutChunked
    | wire.CutGzip
    | wire.Drip
    | wire.Reset
    | wire.ShortLength
    | wire.Stall
    | OneOf
)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fault, and the requests that get it; without more, every request of the feed for ever.

    Of the requests on the route whose path and query hold `containing`, counted from 1, those
    from `first` to `last` may be hit, each with the probability, `times` altogether, and none of
    them, being asked again and again, more often than `most_in_row` times in a row.
    """

    fault: AnyFault
    route: Route = "feed"
    first: int = 1
    last: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    most_in_row: int | None = None
    containing: str = ""

    def is_about(self, asked: Asked) -> bool:
        """Return True for a request that the rule counts."""
        leaves = GROUPS.get(self.route, {self.route})
        return (self.route == "any" or asked.route in leaves) and self.containing in asked.line


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules, all of which may hit one request: the first is nearest to the client."""

    rules: tuple[Rule, ...] = ()

    @staticmethod
    def of(*rules: Rule | Fault) -> Plan:
        """A plan of rules; a fault alone is a rule that hits every request of the feed."""
        return Plan(tuple(one if isinstance(one, Rule) else Rule(one) for one in rules))  # type: ignore[arg-type] # every kind of fault is of the union

    @staticmethod
    def from_json(text: str | bytes) -> Plan:
        """The plan that the JSON describes; msgspec.ValidationError says where it does not."""
        return msgspec.json.decode(text, type=Plan)

    def to_json(self) -> bytes:
        """The plan as JSON that `from_json` takes."""
        return msgspec.json.encode(self)


class Hit(msgspec.Struct, frozen=True):
    """A fault that was done: to the `request`-th request, the `count`-th that its rule counted."""

    request: int
    rule: int
    count: int
    method: str
    route: str
    query: str
    fault: str


class _Tally:
    """Counts of one rule so far."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.count = 0
        self.hits = 0
        self._asked: Counter[str] = Counter()
        self._row: Counter[str] = Counter()

    def fault(self, asked: Asked) -> Fault | None:
        """The fault for a request that the rule is about, if it gets one."""
        self.count += 1
        if not self._is_open():
            return None
        chance = self._chance(asked.line)
        if chance.random() >= self.rule.probability or self._is_spared(asked.line):
            self._row.pop(asked.line, None)
            return None
        self.hits += 1
        return _chosen(self.rule.fault, chance)

    def _is_open(self) -> bool:
        rule = self.rule
        is_over = rule.last is not None and self.count > rule.last
        is_spent = rule.times is not None and self.hits >= rule.times
        return self.count >= rule.first and not is_over and not is_spent

    def _chance(self, line: str) -> random.Random:
        self._asked[line] += 1
        return random.Random(f"{self.rule.seed} {self._asked[line]} {line}")

    def _is_spared(self, line: str) -> bool:
        """Return True for a request hit often enough in a row; else count this hit."""
        if self.rule.most_in_row is None:
            return False
        self._row[line] += 1
        return self._row[line] > self.rule.most_in_row


def _chosen(fault: Fault, chance: random.Random) -> Fault:
    while isinstance(fault, OneOf):
        fault = chance.choice(fault.faults)
    return fault


class Faults:
    """A plan at work: it may be replaced at any time, and tells what it did.

    `callbacks` are the functions that `Call` names. `log` holds the latest 100,000 hits,
    `requests` counts all requests by route, faulty or not, since the plan was set.
    """

    def __init__(
        self,
        plan: Plan | Rule | Fault | Iterable[Rule | Fault] = (),
        *,
        callbacks: Mapping[str, Callback] | None = None,
    ) -> None:
        """Faults by the plan; without one, none."""
        self.callbacks = dict(callbacks or {})
        self._lock = threading.Lock()
        self.replace(plan)

    def replace(self, plan: Plan | Rule | Fault | Iterable[Rule | Fault] = ()) -> None:
        """The plan holds from the next request on; counts and log begin anew."""
        if not isinstance(plan, Plan):
            plan = Plan.of(plan) if isinstance(plan, Rule | Fault) else Plan.of(*plan)
        with self._lock:
            self.plan = plan
            self._tallies = [_Tally(rule) for rule in plan.rules]
            self._log: deque[Hit] = deque(maxlen=_LOG_LENGTH)
            self._previous: dict[str, Answer] = {}
            self.requests: Counter[str] = Counter()

    def clear(self) -> None:
        """Nothing goes wrong any more, and the log is empty."""
        self.replace()

    @property
    def log(self) -> list[Hit]:
        """The faults done, in order."""
        with self._lock:
            return list(self._log)

    def hit(self, asked: Asked) -> list[Fault]:
        """The faults of this request, which is counted."""
        with self._lock:
            self.requests[asked.route] += 1
            about = [tally for tally in self._tallies if tally.rule.is_about(asked)]
            faults = [(tally, tally.fault(asked)) for tally in about]
            hits = [(tally, fault) for tally, fault in faults if fault is not None]
            self._log.extend(self._hit(asked, *hit) for hit in hits)
            return [fault for _, fault in hits]

    def _hit(self, asked: Asked, tally: _Tally, fault: Fault) -> Hit:
        return Hit(
            request=self.requests.total(),
            rule=self._tallies.index(tally),
            count=tally.count,
            method=asked.method,
            route=asked.route,
            query=asked.query,
            fault=kind_of(fault),
        )

    def previous(self, route: str) -> Answer | None:
        """The page that the route answered last."""
        return self._previous.get(route)

    def remember(self, route: str, answer: Answer) -> None:
        """The page is the one that the route answered last."""
        if route in PAGES and answer.is_success:
            self._previous[route] = answer


def kind_of(fault: Fault) -> str:
    """The name of a fault's kind, as it stands in JSON."""
    kind: Any = fault.__struct_config__.tag
    return str(kind)
