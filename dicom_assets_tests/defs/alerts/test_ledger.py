"""The ledger: each channel is told once that something is wrong, and once that it is over."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dicom_assets.defs.alerts.ledger import (
    MOST_MESSAGES,
    Ledger,
    Message,
    Problem,
    RunFailure,
    messages,
)
from dicom_assets.defs.check_words import ReaderRole
from dicom_assets.window import Span

SERVICE, PLATFORM, DATA = ReaderRole
START = datetime(2026, 1, 1, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SLACK, MAIL = "DICOM_ALERTS 1 (slack)", "DICOM_ALERTS_SERVICE 1 (mailto)"
CHANNELS: dict[str, list[str]] = {PLATFORM: [SLACK], DATA: [SLACK], SERVICE: [MAIL, SLACK]}


def problem(key: str = "check", reader: ReaderRole = PLATFORM, text: str = "Do this.") -> Problem:
    """Something that needs a person since the start."""
    return Problem(key, reader, f"{key} failed", text, "runs/1", START)


class Looks:
    """Looks that follow one another; the ledger is written and read between them."""

    def __init__(self) -> None:
        self.now = START
        self.cursor: str | None = None
        self.channels = dict(CHANNELS)

    def look(
        self, *problems: Problem, dead: Collection[str] = (), after: timedelta = MINUTE
    ) -> dict[str, list[str]]:
        """What each channel takes at the next look: keys, with a star when that is over."""
        self.now += after
        ledger = Ledger.read(self.cursor)
        ledger.update(problems, self.channels, self.now)
        names = {name for names in self.channels.values() for name in names}
        due = {name: ledger.due(name, self.now) for name in names - set(dead)}
        told = {
            name: [f"{key}{'*' if ledger.alerts[key].over else ''}" for key in keys]
            for name, keys in due.items()
            if keys
        }
        ledger.mark_sent(due, self.now)
        self.cursor = ledger.dump()
        return told


def test_a_quiet_day_is_quiet() -> None:
    """Nobody is told anything, and nothing is kept."""
    looks = Looks()
    assert [looks.look() for _ in range(10)] == [{}] * 10
    assert Ledger.read(looks.cursor) == Ledger()


def test_each_channel_of_the_reader_is_told_once_and_once_that_it_is_over() -> None:
    """However many looks there are while it lasts."""
    looks = Looks()
    assert looks.look(problem(reader=SERVICE)) == {SLACK: ["check"], MAIL: ["check"]}
    assert [looks.look(problem(reader=SERVICE)) for _ in range(5)] == [{}] * 5
    assert looks.look() == {SLACK: ["check*"], MAIL: ["check*"]}
    assert looks.look() == {}
    assert Ledger.read(looks.cursor) == Ledger()


def test_other_readers_are_not_told() -> None:
    """The mail is the PACS administrator's own."""
    assert Looks().look(problem(reader=PLATFORM)) == {SLACK: ["check"]}


def test_a_problem_with_a_size_is_told_again_when_it_grows_and_no_day_reminds_of_it() -> None:
    """Nor does it when it shrinks. After that it grows from where it is."""
    looks = Looks()

    def told(size: int) -> bool:
        return bool(looks.look(replace(problem(), size=size), after=timedelta(days=2)))

    assert [told(size) for size in (60, 60, 61, 61, 3, 3, 4)] == [
        *(True, False, True, False, False, False, True)
    ]
    assert looks.look() == {SLACK: ["check*"]}


def test_a_reminder_comes_once_a_day() -> None:
    """Not before a day has passed, and not twice."""
    looks = Looks()
    looks.look(problem())
    assert looks.look(problem(), after=timedelta(hours=23)) == {}
    assert looks.look(problem(), after=timedelta(hours=1)) == {SLACK: ["check"]}
    assert looks.look(problem()) == {}


def test_a_channel_that_is_down_is_told_later_and_holds_nobody_back() -> None:
    """It gets the alert at the first look at which it takes one."""
    looks = Looks()
    assert looks.look(problem(reader=SERVICE), dead=[MAIL]) == {SLACK: ["check"]}
    assert looks.look(problem(reader=SERVICE), dead=[MAIL]) == {}
    assert looks.look(problem(reader=SERVICE)) == {MAIL: ["check"]}
    assert looks.look() == {SLACK: ["check*"], MAIL: ["check*"]}


def test_a_channel_that_was_down_all_the_time_is_told_of_it_when_it_is_over() -> None:
    """What it missed is not lost: one message says from when to when it was open."""
    looks = Looks()
    looks.look(problem(), dead=[SLACK])
    assert looks.look(dead=[SLACK]) == {}
    assert looks.look() == {SLACK: ["check*"]}
    assert looks.look() == {}


def test_an_alert_keeps_its_beginning_and_its_end() -> None:
    """A check that fails again began when it failed first; who is told late is told the truth."""
    looks = Looks()
    looks.look(problem(), dead=[SLACK])
    later = Problem("check", PLATFORM, "check failed", "", "runs/2", START + timedelta(hours=1))
    looks.look(later, dead=[SLACK])
    assert Ledger.read(looks.cursor).alerts["check"].since == START
    looks.look(dead=[SLACK])
    ended = looks.now
    looks.look(dead=[SLACK])
    assert Ledger.read(looks.cursor).alerts["check"].over == ended


def test_what_comes_back_is_a_new_alert() -> None:
    """It counts from its new beginning."""
    looks = Looks()
    looks.look(problem())
    looks.look()
    again = Problem("check", PLATFORM, "check failed", "", "runs/2", START + timedelta(hours=1))
    assert looks.look(again) == {SLACK: ["check"]}
    assert Ledger.read(looks.cursor).alerts["check"].since == again.since


def test_what_comes_back_before_its_end_was_told_is_no_news() -> None:
    """For a channel that could not be told of the end; one that was told hears of it anew."""
    looks = Looks()
    looks.look(problem(reader=SERVICE))
    assert looks.look(dead=[MAIL]) == {SLACK: ["check*"]}
    assert looks.look(problem(reader=SERVICE)) == {SLACK: ["check"]}
    assert looks.look() == {SLACK: ["check*"], MAIL: ["check*"]}


def test_a_channel_that_comes_later_is_told_what_is_open() -> None:
    """An alert that was open when nobody could be told is not lost."""
    looks = Looks()
    looks.channels = {PLATFORM: [], DATA: [], SERVICE: []}
    assert looks.look(problem()) == {}
    looks.channels = dict(CHANNELS)
    assert looks.look(problem()) == {SLACK: ["check"]}


def test_a_channel_that_goes_leaves_nothing_behind() -> None:
    """Nobody waits for what it will never take."""
    looks = Looks()
    looks.look(problem(reader=SERVICE), dead=[MAIL])
    looks.channels = {PLATFORM: [], DATA: [], SERVICE: []}
    assert looks.look() == {}
    assert Ledger.read(looks.cursor) == Ledger()


def test_a_ledger_of_another_release_is_begun_anew() -> None:
    """What is open is told once more; nothing breaks."""
    for cursor in ("[]", "{", '{"alerts": 1}'):
        assert Ledger.read(cursor) == Ledger()


def test_a_ledger_survives_the_cursor() -> None:
    """Failures with their hours, too."""
    hours = [Span(START, START + timedelta(hours=3))]
    failure = RunFailure(PLATFORM, "title", "text", "run", START, START, "job", hours)
    ledger = Ledger(failures={"key": failure}, last_look=START, awake_since=START)
    ledger.update([problem()], CHANNELS, START)
    assert Ledger.read(ledger.dump()) == ledger


OPENED = "run hours ServiceRefusedError"
CURSOR_OF_0_2 = (
    '{"alerts":{"run hours ServiceRefusedError":{"reader":"service","title":"old words",'
    '"text":"old words","page":"runs/1","since":"2026-01-01T10:00:00Z",'
    '"told":{"DICOM_ALERTS 1 (slack)":"2026-01-01T10:00:00Z",'
    '"DICOM_ALERTS_SERVICE 1 (mailto)":null},"over":null}},'
    '"failures":{"run hours ServiceRefusedError":{"reader":"service","title":"old words",'
    '"text":"old words","run_id":"1","since":"2026-01-01T10:00:00Z",'
    '"latest":"2026-01-01T10:00:00Z","job":"dicom_tables",'
    '"hours":[{"first":"2026-01-01T03:00:00Z","last":"2026-01-01T04:00:00Z"}]}},'
    '"looked":"2026-01-01T10:00:00Z","awake":"2026-01-01T10:00:00Z"}'
)


def test_the_cursor_of_the_release_before_is_the_cursor_of_this_one() -> None:
    """An open alert is not sent again in new words, only to the channel that still waits for it."""
    ledger = Ledger.read(CURSOR_OF_0_2)
    assert ledger.dump() == CURSOR_OF_0_2
    hours = [Span(START.replace(hour=3), START.replace(hour=4))]
    assert ledger.failures[OPENED].hours == hours
    ledger.update([problem(OPENED, reader=SERVICE)], CHANNELS, START + MINUTE)
    assert ledger.due(SLACK, START + MINUTE) == []
    assert ledger.due(MAIL, START + MINUTE) == [OPENED]


def said(*problems: Problem, over: bool = False, bundled: bool = True) -> list[Message]:
    """The messages about problems."""
    ledger = Ledger()
    ledger.update(problems, CHANNELS, START)
    if over:
        ledger.update([], CHANNELS, START + timedelta(hours=2))
    return messages(ledger.alerts, "pacs", "https://dagster.example/", bundled=bundled)


def test_a_message_says_what_to_do_since_when_for_whom_and_where_to_look() -> None:
    """In this order, and the title names the place."""
    (message,) = said(problem(reader=SERVICE))
    assert message.title == "pacs: check failed"
    assert message.text == (
        "Do this.\nSince: 2026-01-01 10:00 UTC\nFor: PACS administrator\n"
        "Look: https://dagster.example/runs/1"
    )
    assert not message.is_resolved


def test_the_end_names_its_beginning_and_the_same_incident() -> None:
    """So that PagerDuty closes what the alert opened."""
    (opened,), (closed,) = said(problem()), said(problem(), over=True)
    assert closed.title == "pacs: resolved: check failed"
    assert "from 2026-01-01 10:00 UTC to 2026-01-01 12:00 UTC" in closed.text
    assert closed.is_resolved
    assert opened.incident == closed.incident == "pacs check"


def test_many_at_once_come_as_one_message_unless_each_has_to_be_closed() -> None:
    """A few come one by one."""
    few = [problem(f"check {n}") for n in range(MOST_MESSAGES)]
    assert len(said(*few)) == MOST_MESSAGES
    many = [*few, problem("one more")]
    (bundle,) = said(*many)
    assert set(bundle.keys) == {p.key for p in many}
    assert all(p.title in bundle.text for p in many)
    assert bundle.title == "pacs: 4 alerts, 0 resolved"
    assert len(said(*many, bundled=False)) == MOST_MESSAGES + 1
