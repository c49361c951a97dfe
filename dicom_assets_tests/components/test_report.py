"""The report in a browser: at a desk and on a phone, light and dark, without the network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from dicom_assets.report.facts import read_facts
from dicom_assets.report.page import page
from dicom_assets.schema import REJECTED
from dicom_assets.window import HOUR, Bounds, Window
from dicom_assets_tests.components.page import PICTURE_BYTES
from dicom_assets_tests.support.hospital import DAY, NOON, Sender, filled
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import insert

WEEK: Final = (0, 1, 2, 3, 4)
LOST: Final = {"protocolName": None}
HOSPITAL: Final = (
    Sender("CT-1", "CT", each=4, hours=tuple(range(6, 22))),
    Sender("CT-2", "CT", "South Clinic", each=3, hours=tuple(range(24))),
    Sender("MR-1", "MR", weekdays=WEEK, each=2, hours=(7, 8, 9, 10, 11, 13, 14, 15, 16)),
    Sender("MR-2", "MR", "South Clinic", weekdays=WEEK, silent=3, each=3),
    Sender("XR-1", "DX", each=5, hours=tuple(range(7, 20)), silent=6),
    Sender("XR-1", "DX", each=5, hours=tuple(range(7, 20)), days=6, values=LOST),
    Sender("US-1", "US", weekdays=WEEK, each=3, hours=(8, 9, 10, 13, 14)),
    Sender("US-2", "US", "South Clinic", each=1, hours=(8, 15)),
    Sender("XA-1", "XA", each=2, hours=(9, 12), silent=4),
    Sender("MG-1", "MG", "Practice Market Street", patients=4, hours=(9, 10), weekdays=(1, 3)),
    Sender("WS-PLAN", "SR", each=1, hours=(16,), days=30, silent=19),
)
# Red, green and blue of the two colours of an element, and the size of its letters.
STYLE: Final = """element => {
  const style = getComputedStyle(element), ground = getComputedStyle(document.body);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  return [numbers(style.color), numbers(ground.backgroundColor), parseFloat(style.fontSize)];
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a hospital on a Monday at noon."""
    store = store_in(tmp_path_factory.mktemp("hospital"))
    filled(store, HOSPITAL)
    waiting = {"sequence": 7, "reason": "unreadable header", "window_start": NOON - 9 * DAY}
    rest = {"attempts": 3, "run_id": "r", "next_attempt": NOON + HOUR}
    insert(store, REJECTED, [waiting | rest])
    bounds = Bounds(Window.between(NOON - 70 * DAY, NOON))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(read_facts(store, bounds, "Europe/Berlin", NOON)), encoding="utf-8")
    return path


@pytest.fixture
def tab(browser: BrowserContext) -> Iterator[Page]:
    """A tab of its own."""
    tab = browser.new_page()
    yield tab
    tab.close()


def luminance(colour: list[float]) -> float:
    """The relative luminance of a colour (WCAG 2.2)."""
    parts = [c / 255 for c in colour[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_can_be_read(
    file: Path, tab: Page, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    """Nothing is wider than the page, no letter is tiny or pale, and nothing is requested."""
    asked, errors = list[str](), list[str]()
    tab.on("request", lambda one: asked.append(one.url))
    tab.on("console", lambda one: errors.append(one.text))
    tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(file.as_uri())
    assert (asked, errors) == ([file.as_uri()], [])
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for selector in ("h1", "li", ".soft", ".axis span", "td", ".days td.n", "th", "footer p"):
        ink, ground, size = tab.locator(selector).first.evaluate(STYLE)
        pale, dark = sorted([luminance(ink), luminance(ground)], reverse=True)
        assert (pale + 0.05) / (dark + 0.05) >= 4.5, selector
        assert size >= 11, selector
        assert (luminance(ground) < 0.1) is (scheme == "dark")
    expect(tab.get_by_role("heading", level=1)).to_be_in_viewport()
    expect(tab.get_by_text("MR-2 (South Clinic) has sent nothing").first).to_be_in_viewport()
    wanted = request.config.getoption("--pictures", default=False)
    if wanted and (width, scheme) == (1280, "light"):
        target = ROOT / "docs" / "pictures" / "report.png"
        tab.screenshot(path=target, clip={"x": 0, "y": 0, "width": width, "height": 1000})
        assert target.stat().st_size <= PICTURE_BYTES


def test_the_rows_of_devices_keep_their_names_on_a_phone(file: Path, tab: Page) -> None:
    """The days go sideways, the newest first, and the names stay."""
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.goto(file.as_uri())
    first = tab.locator(".days tr").nth(1).locator("td").first
    expect(first).to_contain_text("WS-PLAN")
    tab.locator(".scroll").first.evaluate("element => element.scrollLeft = 10_000")
    box = first.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 60
