"""What a person does at Dagster's page, in their words: by roles and texts, never by style."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import FloatRect, Locator, Page, expect

END_MILLISECONDS = 120_000  # the daemon looks for new backfills twice a minute
SETTLE_MILLISECONDS = 2_500  # until plots and graph no longer move
ZOOM_MILLISECONDS = 400
NEARER = 4
MIDDLE, EDGE = "instance", 60  # the asset in the middle of the graph; a free edge below it
PICTURE_BYTES = 250_000
WIDTH, HEIGHT = 1400, 900
# A page that loads on a busy machine is no fault.
expect.set_options(timeout=30_000)


class DagsterPage:
    """Dagster's page, with the steps that the tests take; pictures only when asked for."""

    def __init__(self, page: Page, url: str, pictures: Path | None) -> None:
        """The page shows nothing yet; `pictures` is the folder that takes pictures, or None."""
        self.page = page
        self._url = url
        self._pictures = pictures

    def open(self, path: str) -> None:
        """The page at a path of the server is shown."""
        self.page.goto(f"{self._url}/{path}")

    def launch(self, choose: Callable[[Locator], None]) -> str:
        """The launch dialog of whatever is shown was answered; returns what it launched.

        That is the path of the run's or backfill's own page, which the message leads to.
        """
        self.page.get_by_role("button", name="Materialize").first.click()
        dialog = self.page.get_by_role("dialog")
        choose(dialog)
        dialog.get_by_role("button", name="Launch").click()
        expect(self.page.get_by_text(re.compile("Launched run|Created backfill"))).to_be_visible()
        self.page.get_by_role("link", name="View", exact=True).last.click()
        self.page.wait_for_url(re.compile("/runs/"))
        return urlsplit(self.page.url).path

    def expect_backfill_complete(self, assets: int) -> None:
        """The backfill that is shown has done all hours of so many assets."""
        done = self.page.get_by_text("100% completed", exact=True)
        expect(done).to_have_count(assets, timeout=END_MILLISECONDS)

    def expect_status(self, status: str) -> None:
        """The run that is shown ends with this status."""
        tag = self.page.get_by_text(status, exact=True).first
        expect(tag).to_be_visible(timeout=END_MILLISECONDS)

    def expect_text(self, text: str) -> None:
        """The page shows this text somewhere."""
        expect(self.page.get_by_text(text).first).to_be_visible()

    def show_graph(self) -> None:
        """The graph of the assets is shown, near enough to read, and nothing beside it."""
        self.open("asset-groups")
        self.page.get_by_text("Hide navigation").click()
        self.page.get_by_role("img", name="panel_show_right").click()
        nearer = self.page.get_by_role("img", name="zoom_in")
        for _ in range(NEARER):
            nearer.click()
            self.page.wait_for_timeout(ZOOM_MILLISECONDS)
        x, y = self._place_of(MIDDLE)
        self.page.mouse.move(WIDTH / 2, HEIGHT - EDGE)
        self.page.mouse.down()
        self.page.mouse.move(WIDTH - x, HEIGHT - EDGE + HEIGHT / 2 - y, steps=5)
        self.page.mouse.up()

    def graph_area(self) -> FloatRect:
        """The part of the page that the graph takes once it is shown."""
        names = ("dicom_service", "change", "instance", "series", "study", "dicom_report")
        places = [self._place_of(name) for name in names]
        left, right = places[0][0], places[-1][0]
        top, bottom = min(y for _, y in places), max(y for _, y in places)
        column = (right - left) / 4  # five assets stand in a row; all else is in proportion
        return {
            "x": left - 0.15 * column,
            "y": top - 0.15 * column,
            "width": right - left + 0.93 * column,  # the zoom stands to the right
            "height": bottom - top + 0.75 * column,
        }

    def _place_of(self, asset: str) -> tuple[float, float]:
        """Where the name of an asset stands in the graph."""
        box = self.page.get_by_text(asset, exact=True).last.bounding_box()
        assert box is not None
        return box["x"], box["y"]

    def show_plots(self, asset: str) -> None:
        """The asset's page shows its numbers over the hours."""
        self.open(f"assets/{asset}")
        self.page.get_by_text("Plots", exact=True).click()

    def picture(self, name: str, clip: FloatRect | None = None) -> None:
        """A picture for the documents is in their folder, if pictures were asked for."""
        if self._pictures is None:
            return
        self.page.wait_for_timeout(SETTLE_MILLISECONDS)
        target = self._pictures / f"{name}.png"
        self.page.screenshot(path=target, clip=clip)
        assert target.stat().st_size <= PICTURE_BYTES


def choose_hour(dialog: Locator, hour: str) -> None:
    """One hour is chosen in the launch dialog."""
    chosen = dialog.get_by_role("textbox").first
    chosen.fill(hour)
    chosen.press("Enter")
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()


def choose_all(dialog: Locator) -> None:
    """All 48 hours of the embedded archive are chosen in the launch dialog."""
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog.get_by_text("48 partitions", exact=True)).to_be_visible()


def choose_range(dialog: Locator, first: str, last: str, count: int) -> None:
    """The hours from one to another are chosen in the launch dialog, as a person types them."""
    chosen = dialog.get_by_role("textbox").first
    chosen.fill(f"[{first}...{last}]")
    chosen.press("Enter")
    expect(dialog.get_by_text(f"{count} partitions", exact=True)).to_be_visible()


def choose_missing(dialog: Locator, count: int) -> None:
    """All hours that no run has brought in yet are chosen in the launch dialog."""
    dialog.get_by_role("button", name="Missing", exact=True).click()
    expect(dialog.get_by_text(f"{count} partitions", exact=True)).to_be_visible()
