"""Plans: which request is hit, by chance or by count, and their form in JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets_tests import adversary as all_of
from dicom_assets_tests.adversary import (
    LOUD,
    QUIET,
    Call,
    Empty,
    Fault,
    Faults,
    Gap,
    Hide,
    OneOf,
    Operate,
    Override,
    Plan,
    Poison,
    Rule,
    Shift,
    Status,
    random_faults,
)
from dicom_assets_tests.adversary.exchange import Answer, Asked, route_of
from dicom_assets_tests.adversary.plan import AnyFault, kind_of

if TYPE_CHECKING:
    from pathlib import Path

# What a kind needs that has no default.
NEEDED: Final[dict[str, dict[str, Any]]] = {
    "call": {"name": "flip"},
    "clock": {"seconds": -2.5},
    "hide": {"sequences": [1, 2]},
    "latency": {"seconds": 0.5},
    "one_of": {"faults": [{"kind": "empty"}, {"kind": "status", "status": 500}]},
    "operate": {"operation": "delete", "study": "1.2"},
    "override": {"sequence": 3, "metadata": "/wA=", "fields": {"a": None}},
    "poison": {"sequences": [3]},
    "shift": {"by": -1},
    "status": {"status": 429, "retry_after": "soon"},
    "verbatim": {"body": "eA=="},
}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive that no test here looks into."""
    return Archive(tmp_path)


def asked(archive: Archive, path: str = "/v2/changefeed", query: str = "") -> Asked:
    """A request."""
    return Asked("GET", path, query, archive, {})


def kinds() -> list[type[Fault]]:
    """Every kind of fault that may stand in a plan."""
    return list(AnyFault.__args__)


def hits(archive: Archive, rule: Rule, count: int, query: str = "") -> list[int]:
    """Which of so many equal requests are hit, counted from 1."""
    faults = Faults(rule)
    return [n + 1 for n in range(count) if faults.hit(asked(archive, query=query))]


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_written_in_json(kind: type[Fault]) -> None:
    """By its name, with what is not its default, and read back the same."""
    name = kind.__struct_config__.tag
    text = {"rules": [{"fault": {"kind": name, **NEEDED.get(str(name), {})}}]}
    plan = Plan.from_json(msgspec.json.encode(text))
    assert isinstance(plan.rules[0].fault, kind)
    assert msgspec.json.decode(plan.to_json()) == text
    assert Plan.from_json(plan.to_json()) == plan


def test_every_kind_can_be_imported_from_one_place() -> None:
    """The package names each kind, under its own name."""
    for kind in kinds():
        assert getattr(all_of, kind.__name__) is kind
        assert kind.__name__ in all_of.__all__
        assert kind.__doc__


def test_names_are_words() -> None:
    """A kind is named in snake_case."""
    named = {kind.__struct_config__.tag for kind in kinds()}
    assert {"reset", "cut_gzip", "wrong_shape", "one_of", "no_content"} <= named
    assert kind_of(Status(500)) == "status"


@pytest.mark.parametrize(
    "plan",
    [
        '{"rules":[{"fault":{"kind":"status"}}]}',
        '{"rules":[{"fault":{"kind":"status","status":"x"}}]}',
        '{"rules":[{"fault":{"kind":"empty","by":1}}]}',
        '{"rules":[{"fault":{"kind":"empty"},"route":"nowhere"}]}',
        '{"rules":[{"fault":{"kind":"empty"},"colour":"red"}]}',
        '{"rules":[{"fault":{"kind":"operate","operation":"burn"}}]}',
        '{"rule":[]}',
    ],
)
def test_a_plan_that_is_none_is_refused(plan: str) -> None:
    """What is missing, unknown or of another type is said, not guessed."""
    with pytest.raises(msgspec.ValidationError):
        Plan.from_json(plan)


def test_rules_are_counted(archive: Archive) -> None:
    """From the first, to the last, so many times; for ever without more."""
    fault = Status(500)
    assert hits(archive, Rule(fault), 3) == [1, 2, 3]
    assert hits(archive, Rule(fault, times=2), 4) == [1, 2]
    assert hits(archive, Rule(fault, first=3), 4) == [3, 4]
    assert hits(archive, Rule(fault, first=2, last=3), 5) == [2, 3]
    assert hits(archive, Rule(fault, first=2, times=1), 5) == [2]
    assert hits(archive, Rule(fault, route="latest"), 5) == []
    assert hits(archive, Rule(fault, containing="a=1"), 2, query="a=1&b") == [1, 2]


def test_most_in_row_spares_the_next(archive: Archive) -> None:
    """After so many faults one request passes, and counting begins anew."""
    assert hits(archive, Rule(Status(500), most_in_row=2), 7) == [1, 2, 4, 5, 7]
    assert hits(archive, Rule(Status(500), most_in_row=0), 3) == []


def test_chance_follows_the_seed(archive: Archive) -> None:
    """The rate is about what was asked for; the seed decides which."""

    def chosen(seed: int) -> list[int]:
        return hits(archive, Rule(Status(500), probability=0.3, seed=seed), 1000)

    assert chosen(1) == chosen(1) != chosen(2)
    assert 250 < len(chosen(1)) < 350
    assert hits(archive, Rule(Status(500), probability=0.0), 50) == []


def test_chance_looks_at_the_request_not_at_its_turn(archive: Archive) -> None:
    """Other requests between do not change what happens to this one."""
    faults = Faults(Rule(Status(500), probability=0.5, seed=3))
    alone = [bool(faults.hit(asked(archive, query="a"))) for _ in range(40)]
    faults.replace(Rule(Status(500), probability=0.5, seed=3))
    among = []
    for turn in range(40):
        for other in range(turn % 4):
            faults.hit(asked(archive, query=f"b{other}"))
        among.append(bool(faults.hit(asked(archive, query="a"))))
    assert alone == among


def test_one_of_many_is_chosen(archive: Archive) -> None:
    """Each comes about as often as the others, nested or not."""
    faults = Faults(OneOf((Status(500), OneOf((Status(502), Status(503))))))
    chosen = Counter(
        fault.status
        for n in range(900)
        for fault in faults.hit(asked(archive, query=f"{n}"))
        if isinstance(fault, Status)
    )
    assert 380 < chosen[500] < 520
    assert abs(chosen[502] - chosen[503]) < 80
    assert {hit.fault for hit in faults.log} == {"status"}


def test_random_faults_hit_at_their_rate(archive: Archive) -> None:
    """Pages and `/latest` alike, every kind among them, and nothing else of the service."""
    faults = Faults(random_faults(5, 0.3))
    for n in range(2000):
        faults.hit(asked(archive, query=f"limit={n}"))
        faults.hit(asked(archive, "/v2/changefeed/latest", f"a={n}"))
        faults.hit(asked(archive, "/v2/studies/1.2/metadata", f"a={n}"))
    routes = Counter(hit.route for hit in faults.log)
    assert set(routes) == {"heavy", "latest"}
    assert all(500 < count < 700 for count in routes.values())
    loud, quiet = ({kind_of(fault) for fault in group} for group in (LOUD, QUIET))
    assert {hit.fault for hit in faults.log if hit.route == "heavy"} == loud | quiet
    assert {hit.fault for hit in faults.log if hit.route == "latest"} == loud


def test_random_faults_leave_out_what_nobody_can_tell() -> None:
    """No row is lost in silence; without quiet faults every page that comes is right."""
    plan = random_faults(1, 0.5, most_in_row=1, quiet=False)
    text = plan.to_json()
    assert not [kind for kind in (b'"gap"', b'"shift"', b'"empty"') if kind in text]
    assert Plan.from_json(text) == plan == random_faults(1, 0.5, most_in_row=1, quiet=False)
    for fault in (*LOUD, *QUIET):
        assert not isinstance(fault, Gap | Shift | Hide | Override | Poison | Operate | Call)


def test_a_plan_may_be_given_in_several_forms() -> None:
    """A fault, a rule, a list of both, or a plan; nothing is no plan."""
    rule = Rule(Empty())
    expected = Plan((rule,))
    for form in (Empty(), rule, [Empty()], (rule,), expected):
        faults = Faults(form)
        assert faults.plan == expected
        faults.replace()
        assert faults.plan == Plan()
        faults.replace(form)
        assert faults.plan == expected
    assert Plan.of() == Plan()


def test_a_new_plan_begins_anew(archive: Archive) -> None:
    """Counts and log belong to the plan."""
    faults = Faults(Rule(Status(500), times=1))
    for _ in range(2):
        assert [len(faults.hit(asked(archive))) for _ in range(2)] == [1, 0]
        assert (len(faults.log), faults.requests["heavy"]) == (1, 2)
        faults.replace(faults.plan)
    faults.clear()
    assert (faults.log, faults.plan, faults.requests.total()) == ([], Plan(), 0)


@pytest.mark.parametrize(
    ("method", "path", "parameters", "route"),
    [
        ("GET", "/v2/changefeed", {}, "heavy"),
        ("GET", "/v1/changefeed", {"includemetadata": "TRUE"}, "heavy"),
        ("GET", "/v2/changefeed", {"includemetadata": " False "}, "light"),
        ("GET", "/v2/changefeed/latest", {"includemetadata": "false"}, "latest"),
        ("GET", "/v2/studies/1/metadata", {}, "metadata"),
        ("GET", "/v2/partitions/p/studies/1/series/2/instances/3/metadata", {}, "metadata"),
        ("POST", "/v2/studies", {}, "store"),
        ("POST", "/v2/studies/1", {}, "store"),
        ("POST", "/v2/partitions/p/studies/$bulkUpdate", {}, "update"),
        ("DELETE", "/v2/studies/1", {}, "delete"),
        ("GET", "/v2/studies", {}, "query"),
        ("GET", "/v2/studies/1/series", {}, "query"),
        ("GET", "/v2/instances", {}, "query"),
        ("GET", "/v2/operations/1", {}, "other"),
        ("GET", "/", {}, "other"),
    ],
)
def test_routes(method: str, path: str, parameters: dict[str, str], route: str) -> None:
    """Each request is on one route."""
    assert route_of(method, path, parameters) == route


def test_a_request_reads_its_own_numbers(archive: Archive) -> None:
    """Limit and offset, or what they are without; names in any case."""
    assert (asked(archive).limit, asked(archive).offset) == (100, 0)
    assert asked(archive, "/v1/changefeed").limit == 10
    request = asked(archive, query="LIMIT=7&offset=x&startTime=a%2Bb&empty=")
    assert (request.limit, request.offset) == (7, 0)
    changed = request.with_parameters(offset=3)
    assert changed.parameters == {
        "limit": "7",
        "offset": "3",
        "starttime": "a+b",
        "empty": "",
    }


def test_an_answer_is_a_page_or_not() -> None:
    """Only a list with 200 has rows; they are spliced, never read."""
    page = Answer(200, body=b'[{"a": 1.50},"\\ud800",7]')
    assert page.rows() == [b'{"a": 1.50}', b'"\\ud800"', b"7"]
    assert page.with_rows([b"x", b"y"]).body == b"[x,y]"
    for body in (b"[]", b"[ ]"):
        assert Answer(200, body=body).rows() == []
        assert Answer(500, body=body).rows() is None
    for body in (
        b"",
        b"{}",
        b"[",
        b"]",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[1]]",
        b'["\\ud800"',
        b"7",
        b'"\\ud800"',
    ):
        assert Answer(200, body=body).rows() is None, body


def test_headers_are_replaced_not_added() -> None:
    """One header of a name, or none."""
    answer = Answer(200, (("a", "1"), ("b", "2")))
    assert answer.with_header("a", "3").headers == (("b", "2"), ("a", "3"))
    assert answer.with_header("a", None).headers == (("b", "2"),)
    assert (answer.header("b"), answer.header("c")) == ("2", None)
