"""The page of a made-up hospital: what it says, and what it does not give away."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dicom_assets.report.facts import ReportFacts, read_facts
from dicom_assets.report.page import page
from dicom_assets.schema import REJECTED
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import HOUR, Bounds, Window
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.hospital import DAY, NOON, Sender, filled
from dicom_assets_tests.support.tables import insert

BOUNDS = Bounds(Window.between(NOON - 70 * DAY, NOON))
CT = Sender("CT1", "CT", each=12)
LARGE = (CT, Sender("CR1", "CR", "South Clinic", each=12), Sender("US1", "US", each=12))
SMALL = Sender("MG1", "MG", "Practice", patients=3, silent=2)


class Tables(HTMLParser):
    """The tables of a page as rows of texts, and its elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A table, row or cell begins."""
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        self._open = tag in {"td", "th"}

    def handle_data(self, data: str) -> None:
        """The first text of a cell is the cell."""
        if self._open:
            self.tables[-1][-1][-1] += data
            self._open = False

    def __getitem__(self, head: str) -> dict[str, list[str]]:
        """The rows of the table whose first column has this name, by their first cells."""
        (found,) = (rows for rows in self.tables if rows[0][0] == head)
        return {row[0]: row[1:] for row in found[1:]}


def facts(
    store: Store, *, zone: str | None = "Europe/Berlin", at_rest: bool = False
) -> ReportFacts:
    """The facts at noon."""
    return read_facts(store, BOUNDS, zone, NOON, at_rest=at_rest)


def made(store: Store, *, internal: bool = False) -> Tables:
    """The page at noon, taken apart."""
    return Tables(page(facts(store), internal=internal))


def test_the_page_is_one_file_of_counts(store: Store) -> None:
    """No patient, no script, no address, below a megabyte with two hundred devices."""
    many = [Sender(f"US{n}", "US", f"Clinic {n % 9}", each=1, hours=(8,)) for n in range(200)]
    filled(store, [*LARGE, SMALL, *many])
    for internal in (False, True):
        text = page(facts(store), internal=internal)
        assert len(text.encode()) < 1_000_000
        assert MARK not in text
        assert not re.search(r"https?:|//|@import|url\(", text.replace("<!doctype", ""))
        names = {tag for tag, _ in Tables(text).elements}
        assert not names & {"script", "link", "img", "iframe", "object", "a"}


def test_text_of_a_header_is_text(store: Store) -> None:
    """A device may have any name."""
    filled(store, [CT, Sender('<script>"&', "CT", "<b>", each=12)])
    parsed = made(store)
    assert not {"script", "b"} & {tag for tag, _ in parsed.elements}
    assert '<script>"&' in parsed["device"]


def test_a_device_of_few_patients_shows_no_number(store: Store) -> None:
    """With a second one whose number is withheld, so that the rows of `series` do not tell."""
    filled(store, [*LARGE, SMALL])
    devices = made(store)["device"]
    total, *days = devices["MG1"][1:]
    assert set(days) == {"", "<10"}
    assert total == "<10"
    assert [row[1] for row in devices.values()].count("<10") == 2
    open_ = made(store, internal=True)["device"]
    assert (open_["MG1"][1], open_["MG1"][4]) == ("520", "20")


@pytest.mark.parametrize("head", ["institution", "modality"])
def test_institutions_and_modalities_of_few_patients_show_no_number(
    store: Store, head: str
) -> None:
    """Each with a second one."""
    filled(store, [*LARGE, SMALL])
    numbers = [cell for (cell,) in made(store)[head].values()]
    assert numbers.count("<10") == 2
    small = {"institution": "Practice", "modality": "MG"}[head]
    assert made(store)[head][small] == ["<10"]
    assert made(store, internal=True)[head][small] == ["15,600"]


def test_an_archive_of_few_patients_shows_no_size(store: Store) -> None:
    """The rows of the tables would be the number of its only device."""
    filled(store, [replace(SMALL, days=40)])
    parsed = made(store)
    assert parsed["table"]["series"][1] == "<10"
    assert {row[1] for row in parsed["device"].values()} == {"<10"}
    assert made(store, internal=True)["table"]["series"][1] != "<10"


def test_hours_are_rounded_up_and_rare_modalities_are_one(store: Store) -> None:
    """So nobody reads a number of an hour exactly."""
    filled(store, [*LARGE, SMALL, Sender("PT1", "PT", patients=2)])
    text = page(facts(store))
    numbers = [int(n.replace(",", "")) for n in re.findall(r"<title>\w+ ([\d,]+), 20", text)]
    assert numbers
    assert all(number % 10 == 0 for number in numbers)
    assert not re.search("<title>(MG|PT) ", text)
    assert re.search("<title>MG ", page(facts(store), internal=True))


def test_the_longest_silent_device_comes_first(store: Store) -> None:
    """Whether it was expected or not."""
    filled(store, [CT, Sender("B", "CT", silent=9), Sender("A", "CT", silent=3), SMALL])
    assert list(made(store)["device"]) == ["B", "A", "MG1", "CT1"]


def test_complete_tables_say_so_in_the_time_of_the_site(store: Store) -> None:
    """Noon in Berlin."""
    filled(store, LARGE)
    text = page(facts(store))
    assert "Complete up to 2026-03-02 12:00 Berlin, 1,680 hours." in text
    assert "Nothing needs a person." in text
    assert "Complete up to 2026-03-02 11:00 UTC" in page(facts(store, zone=None))


def test_missing_hours_are_the_first_thing_said(store: Store) -> None:
    """With the first of them."""
    filled(store, LARGE, without=[NOON - 30 * HOUR])
    head = page(facts(store)).partition("<h2>")[0]
    assert "Not complete: 1 of 1,680 hours missing, the first 2026-03-01 06:00 Berlin." in head
    assert facts(store).numbers()["hours_missing"] == 1


def test_everything_that_needs_a_person_is_listed(store: Store) -> None:
    """With the person."""
    lost = {"protocolName": None}
    filled(
        store,
        [
            *LARGE,
            Sender("MR1", "MR", silent=1),
            Sender("XR1", "DX", silent=6),
            Sender("XR1", "DX", days=6, values=lost),
        ],
    )
    waiting = {"sequence": 7, "reason": "no header", "window_start": NOON - DAY, "attempts": 1}
    insert(store, REJECTED, [waiting | {"run_id": "r", "next_attempt": NOON + HOUR}])
    text, numbers = page(facts(store)), facts(store).numbers()
    for need in (
        "PACS administrator: MR1 (North Clinic) has sent nothing since before Mon 2 Mar",
        "PACS administrator: waiting entries of the feed (1)",
        "Owners of devices: columns that got worse (1)",
    ):
        assert need in text
    assert numbers == {
        "hours_missing": 0,
        "entries_waiting": 1,
        "devices_silent": 1,
        "columns_worse": 1,
        "series_last_day": numbers["series_last_day"],
    }
    parsed = Tables(text)
    assert parsed["reason"]["no header"] == ["1", "2026-03-01 12:00", "2026-03-02 13:00"]
    assert parsed["column of series"]["protocolName"][0] == "XR1 (North Clinic)"


@pytest.mark.parametrize(("days", "is_usual"), [(70, True), (5, False)])
def test_the_usual_band_needs_a_week(store: Store, days: int, is_usual: bool) -> None:
    """Before, nothing is usual."""
    filled(store, [replace(CT, days=days)])
    assert ('class="band" x' in page(facts(store))) is is_usual


def test_an_archive_at_rest_has_no_pace(store: Store) -> None:
    """What was imported in an hour says nothing about the next year."""
    filled(store, LARGE)
    assert facts(store).pace == pytest.approx(3 * 5 * 12 * 30, rel=0.1)
    assert facts(store, at_rest=True).pace is None
    assert "in a year" not in page(facts(store, at_rest=True))


def test_tables_without_rows_have_a_page(store: Store) -> None:
    """Before the first hour."""
    filled(store, [])
    assert "Complete up to" in page(facts(store))
