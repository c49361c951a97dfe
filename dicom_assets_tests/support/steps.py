"""The steps of a run, as the assets take them, and a store of all tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicom_assets.feed_contract import Feed
from dicom_assets.schema import SERIES, STUDY, Table
from dicom_assets.settings import DEFAULTS
from dicom_assets.tables.catalogue import TABLES, catalogue
from dicom_assets.tables.change import AddEntries
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.instance import FollowLog
from dicom_assets.tables.outcome import Outcome
from dicom_assets.tables.rollup import DeriveStudies
from dicom_assets.window import Window


def add_entries(store: Store, window: Window, feed: Feed, run: Run) -> Outcome:
    """The step of `change`."""
    return AddEntries(window, feed).commit(store, run)


def follow_log(store: Store, window: Window, feed: Feed, run: Run, **switches: bool) -> Outcome:
    """The step of `instance`."""
    return FollowLog(window, feed, **switches).commit(store, run)


def derive(store: Store, table: Table, window: Window, run: Run) -> Outcome:
    """The step of a derived table."""
    return DeriveStudies(table, window).commit(store, run)


def whole_run(store: Store, window: Window, feed: Feed, run: Run, **switches: bool) -> None:
    """All four steps."""
    add_entries(store, window, feed, run)
    follow_log(store, window, feed, run, **switches)
    derive(store, SERIES, window, run)
    derive(store, STUDY, window, run)


def store_of(urls: Mapping[str, str], **others: Any) -> Store:  # noqa: ANN401 - whatever Store takes
    """A store over URLs, with the product's tables and retention unless others are given."""
    usual: dict[str, Any] = {
        "tables": catalogue(TABLES),
        "retention_hours": DEFAULTS.retention_hours,
    }
    return Store(urls, **(usual | others))


def store_in(root: Path, tables: tuple[Table, ...] = TABLES) -> Store:
    """The tables under a folder, each at its own name."""
    urls = {table.name: str(root / table.name) for table in tables}
    return store_of(urls, tables=catalogue(tables))
