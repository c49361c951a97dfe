"""F07 to F11: pages that are whole and still not what was asked for, and an archive that moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import (
    Again,
    Call,
    Duplicate,
    Empty,
    Fault,
    Faults,
    Gap,
    Hide,
    Longer,
    Operate,
    Rule,
    Shift,
    Shorter,
    Shuffle,
)
from dicom_assets_tests.feed.faults.truth import (
    HOUR,
    SHOWN,
    WINDOW,
    assert_all_is_read,
    changes_in,
    changes_of,
    current,
    fill,
    headers_in,
    headers_of,
)
from dicom_assets_tests.support.entries import header

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive

Opener = Callable[..., ChangeFeed]


def on_pages(fault: Fault, first: int, last: int | None = None) -> list[Rule]:
    """Return the fault for the light and the heavy read's pages from the first to the last."""
    last = first if last is None else last
    return [
        Rule(fault, "light", first=first, last=last),  # type: ignore[arg-type] # of the union
        Rule(fault, "heavy", first=first, last=last),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("page", [1, 2, 6, 7, 8])
@pytest.mark.parametrize("fault", [Longer(), Longer(30), Shorter(), Shorter(19), Empty()], ids=repr)
def test_f07_the_window_ends_only_on_a_confirmed_count(
    still: Archive, faults: Faults, feed: ChangeFeed, fault: Fault, page: int
) -> None:
    """A page longer than its limit, shorter, or empty, is neither the end nor a gap."""
    faults.replace(on_pages(fault, page))
    assert_all_is_read(feed, still)


@pytest.mark.parametrize("page", [1, 3, 7])
def test_f07_a_row_left_out_of_a_page_is_noticed(
    still: Archive, faults: Faults, feed: ChangeFeed, page: int
) -> None:
    """The service counts one more than was read; a header is looked for until it is found."""
    faults.replace(on_pages(Gap(), page))
    assert_all_is_read(feed, still)


def test_f07_a_row_that_no_page_shows_is_an_error(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """The pages of the window never add up, and the message says for which."""
    faults.replace(Rule(Hide(frozenset({50})), "light", containing="limit=20"))
    with pytest.raises(ServiceAnswerError, match=f"the pages of {SHOWN} do not add up"):
        open_feed().entries(WINDOW)


def test_f07_two_reads_that_never_agree_are_an_error(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """It was read again before; the message has the window and the counts, and no UID."""
    entries = feed.entries(WINDOW)
    faults.replace(Rule(Hide(frozenset({50, 51})), "heavy"))
    with pytest.raises(ServiceAnswerError, match="2 of 20 entries of the log") as error:
        current(feed, entries)
    assert "2026-01-05 08:00:00" in str(error.value)
    assert "1.3." not in str(error.value)
    assert faults.requests["heavy"] > 7 + 2 * 2


def test_f07_two_reads_that_disagree_for_a_while_are_read_again(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """What was hidden from the page and from those after it is found in the list of its tick."""
    entries = feed.entries(WINDOW)
    faults.replace(Rule(Hide(frozenset({50})), "heavy", last=10))
    assert headers_in(current(feed, entries)) == headers_of(still)


@pytest.mark.parametrize("page", [2, 3, 7])
@pytest.mark.parametrize(
    "fault",
    [Again(), Again(1), Again(20), Duplicate(), Duplicate(20), Shuffle(), Shift(-1), Shift(-20)],
    ids=repr,
)
def test_f08_what_comes_twice_or_in_another_order_counts_once(
    still: Archive, faults: Faults, feed: ChangeFeed, fault: Fault, page: int
) -> None:
    """The same entry on two pages, a page twice, pages in any order."""
    faults.replace(on_pages(fault, page, page + 1))
    assert_all_is_read(feed, still)


def test_f08_pages_that_all_repeat_and_mix_their_rows_add_up(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Also if it is so for ever."""
    faults.replace([Rule(Shuffle(seed=3), "page"), Rule(Duplicate(5), "heavy")])
    assert_all_is_read(feed, still)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_f09_states_that_flip_while_paging_are_the_truth_in_the_end(
    archive: Archive, faults: Faults, open_feed: Opener, page: int
) -> None:
    """Between two pages a study changes, an instance goes, another expires."""
    fill(archive, 50)
    archive.store(header("2", "2.1", "2.1.1"), at=HOUR + 100)
    later = HOUR + 1_000
    faults.replace([
        Rule(Operate("delete", "1.2", "1.2.1", "1.3.7", at=later), "light", first=page, last=page),
        Rule(Operate("expire", "1.2", "1.2.1", "1.3.8"), "light", first=page + 1, last=page + 1),
        Rule(
            Operate("update", "2", header={"00100020": {"vr": "LO", "Value": ["N"]}}, at=later + 1),
            "heavy",
            first=1,
            last=1,
        ),
    ])  # fmt: skip
    feed = open_feed()
    entries = feed.entries(WINDOW)
    assert len(changes_in(entries)) >= 51
    pieces = current(feed, entries)
    gone = {s for piece in pieces for s in (*piece.deleted, *piece.replaced)}
    assert headers_in(pieces).keys() | gone >= headers_of(archive).keys() - {53}
    assert_all_is_read(feed, archive)


@pytest.mark.parametrize("late", [1, 31, 60, 61, 130])
@pytest.mark.parametrize("page", [1, 2, 4, 7])
def test_f10_an_entry_that_appears_while_its_window_is_read_is_read(
    still: Archive, faults: Faults, feed: ChangeFeed, late: int, page: int
) -> None:
    """Before, at and after the place of reading; whatever it shifts is neither lost nor doubled."""
    faults.replace(Rule(Hide(frozenset({late})), "light", last=page))
    assert changes_in(feed.entries(WINDOW)) == changes_of(still)


def test_f10_an_entry_later_than_its_window_hides_no_other(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Read again, as the audit does, the window has it; the headers are found where they moved."""
    faults.replace(Rule(Hide(frozenset({31})), "light"))
    early = feed.entries(WINDOW)
    assert changes_in(early) == [row for row in changes_of(still) if row[0] != 31]
    faults.clear()
    found = headers_in(current(feed, early))
    assert found == {s: text for s, text in headers_of(still).items() if s != 31}
    assert_all_is_read(feed, still)


def test_f11_gaps_and_clocks_that_step_back_change_nothing(
    archive: Archive, feed: ChangeFeed
) -> None:
    """Sequences prove nothing, and their order is not the order of time."""
    fill(archive, 30)
    archive.skip_sequences(2**31)
    for i in range(30, 60):
        archive.store(header("1.2", "1.2.1", f"1.3.{i}"), at=HOUR + 60 - i)
    archive.delete("1.2", "1.2.1", "1.3.3", at=HOUR + 1)
    archive.store(header("1.2", "1.2.1", "1.3.3"), at=HOUR)
    assert_all_is_read(feed, archive)


def test_f11_five_thousand_entries_of_one_tick_are_read_once(
    archive: Archive, faults: Faults, open_feed: Opener
) -> None:
    """A bulk update stamps all its rows alike; pages of one tick follow by offset."""
    fill(archive, 5_000, per_tick=5_000)
    faults.replace(Rule(Shorter(), "page", first=5, last=5))
    assert_all_is_read(open_feed(batch_size=200), archive)


def test_f11_a_history_that_goes_on_while_it_is_read_is_the_truth_when_read_again(
    archive: Archive, faults: Faults, open_feed: Opener
) -> None:
    """Whatever moved between the pages, the last read of a window that rests is the archive."""
    fill(archive, 60, per_tick=7)
    moment = iter(range(1_000, 2_000))

    def store(moved: Archive) -> None:
        at = next(moment)
        moved.store(header("3", "3.1", f"3.1.{at}"), at=HOUR + at)

    faults.callbacks["store"] = store
    faults.replace(Rule(Call("store"), "page", last=12))
    feed = open_feed()
    pieces = current(feed, feed.entries(WINDOW))
    assert headers_in(pieces).items() <= headers_of(archive).items()
    assert_all_is_read(feed, archive)
