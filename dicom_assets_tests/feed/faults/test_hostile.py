"""F30: entries that no service should send cost at most one rejection each, and no one a value."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, Any

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import Faults, Plan, Rule, hostile
from dicom_assets_tests.feed.faults.truth import (
    HOUR,
    WINDOW,
    changes_in,
    current,
    fill,
    headers_in,
    headers_of,
    rejections_in,
)
from dicom_assets_tests.support.entries import header
from dicom_assets_tests.support.feed_service import QUICK, Answer, Request, Running, Service, made
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from dicom_assets.emulator.archive import Archive
    from dicom_assets.feed import ChangeFeed
    from dicom_assets.feed_contract import Rejection

CANARY = "PHI-9c41"
REASONS = 40


def test_f30_each_fixed_hostile_entry_costs_itself_at_most(
    archive: Archive,
    faults: Faults,
    open_feed: Callable[..., ChangeFeed],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """More than sixty of them stand between good ones, which all land, also the megabytes."""
    caplog.set_level(logging.DEBUG)
    good = header("1.2", "1.2.1", "1.3.0") | {"00100020": {"vr": "LO", "Value": [CANARY]}}
    names = [name for name, _ in hostile.overrides(0, good)]
    assert len(names) > 60
    fill(archive, 2 * len(names))
    bad = range(1, 2 * len(names), 2)
    rules = []
    for sequence, name in zip(bad, names, strict=True):
        own = good | {"00080018": {"vr": "UI", "Value": [f"1.3.{sequence - 1}"]}}
        rules.append(Rule(dict(hostile.overrides(sequence, own))[name]))
    faults.replace(Plan(tuple(rules)))
    feed = open_feed(batch_size=200)
    entries = feed.entries(WINDOW)
    pieces = current(feed, entries)
    headers, rejected = headers_in(pieces), rejections_in(pieces)
    for s, text in headers_of(archive).items():
        assert s in bad or headers[s] == text
    lost = set(bad) - headers.keys() - {r.sequence for r in (*rejected, *entries.rejections)}
    nameless = [r for r in entries.rejections if r.sequence is None or r.sequence not in bad]
    assert len(lost) <= len(nameless)
    assert len(entries.rejections) + len(rejected) <= len(names)
    assert_silent([*entries.rejections, *rejected], caplog)


def assert_silent(rejections: list[Rejection], caplog: pytest.LogCaptureFixture) -> None:
    """Reasons are a few constant texts, and no value is in any log."""
    assert len({r.reason for r in rejections}) < REASONS
    assert CANARY not in caplog.text + str(rejections)
    assert "1.3." not in caplog.text


def odd_value(chance: random.Random, depth: int = 0) -> object:
    """Return any JSON value, now and then with the canary."""
    kinds: list[Callable[[], object]] = [
        lambda: None,
        lambda: chance.choice([True, False]),
        lambda: chance.choice([0, -1, 2**53 + 1, 2**63, -(2**70), 10**400, 1e308, 1.5]),
        lambda: chance.choice(["", CANARY, "\0", "\ud800", "a\\b", "'; --", "../..", "x" * 5_000]),
        lambda: chance.choice(["20230203", "00000000", "2023.02.03", "20230101-20230202"]),
        lambda: [odd_value(chance, depth + 1) for _ in range(chance.randrange(4))],
        lambda: {
            chance.choice(["vr", "Value", "Alphabetic", "", CANARY]): odd_value(chance, depth + 1)
            for _ in range(chance.randrange(4))
        },
    ]
    return chance.choice(kinds if depth < 4 else kinds[:5])()


def odd_header(chance: random.Random, good: dict[str, Any]) -> bytes:
    """Return a header with a few things wrong, as bytes that need not be UTF-8, nor numbers."""
    if chance.random() < 0.03:
        return json.dumps(odd_value(chance)).encode()
    spoilt: dict[str, Any] = dict(good)
    for tag in chance.sample([*good, "00104000", "00091001", "lower", ""], chance.randrange(1, 5)):
        spoilt[tag] = chance.choice([
            odd_value(chance),
            {"vr": chance.choice(["LO", "PN", "SQ", "ZZ", 7]), "Value": odd_value(chance)},
            {"Value": [odd_value(chance)]},
        ])  # fmt: skip
    raw = json.dumps(spoilt, ensure_ascii=chance.random() < 0.7).encode("utf-8", "surrogatepass")
    if chance.random() < 0.1:
        raw = raw.replace(b'"A', b'"\xff\xfe', 1)
    if chance.random() < 0.1:
        raw = raw.replace(b"[1]", chance.choice([b"[NaN]", b"[1e999]", b"[-Infinity]", b"[01]"]), 1)
    return raw


def test_f30_two_thousand_generated_headers_cost_themselves_at_most(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every other entry is good, and lands; of the spoilt ones each lands or is one rejection."""
    caplog.set_level(logging.DEBUG)
    chance, service = random.Random(30), Service()
    entries = {i: made(i, HOUR + i // 5) for i in range(4_000)}
    service.add(*entries.values())
    raw = {i: odd_header(chance, entries[i]["metadata"]) for i in range(0, 4_000, 2)}

    def before(request: Request, _: int) -> Answer | None:
        if not request.has_headers:
            return None
        rows = [row | {"metadata": f"HERE{row['sequence']}"} for row in service._page(request)]
        pieces = []
        for row in rows:
            i = row["sequence"]
            there = raw.get(i) or json.dumps(entries[i]["metadata"]).encode()
            pieces.append(json.dumps(row).encode().replace(b'"HERE%d"' % i, there))
        return Answer(body=b"[" + b",".join(pieces) + b"]")

    service.before = before
    with Running(service) as running, feed_of(running.url, timeouts=QUICK) as feed:
        read = feed.entries(WINDOW)
        assert [row[0] for row in changes_in(read)] == list(range(4_000))
        pieces = current(feed, read)
    headers, rejected = headers_in(pieces), rejections_in(pieces)
    assert headers.keys() >= set(range(1, 4_000, 2))
    assert headers.keys() | {r.sequence for r in rejected} == set(range(4_000))
    assert len(headers) + len(rejected) == 4_000
    assert 100 < len(rejected) < 1_900
    assert len(service.requests) < 100
    assert_silent(rejected, caplog)
