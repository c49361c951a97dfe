"""Headers from the field go through a real feed into real tables, and give their right values."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from dicom_assets.feed.rows import RowReader
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables import rejected
from dicom_assets.tables.catalogue import TABLES, catalogue
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import Window
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feed_service import HOUR, Running, Service, stamp
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.field_cases import CASES, COLUMNS, Case, uids

pytestmark = pytest.mark.sockets

Row = dict[str, Any]


class Filled(NamedTuple):
    """The tables after one run over all cases, and what did not parse."""

    store: Store
    unparsable: Counter[str]

    def row(self, table: Any, number: int) -> Row:  # noqa: ANN401 - a table of the catalogue
        """Return the one row that a table has of a case."""
        snapshot = self.store.open(table)
        [row] = snapshot.rows_of(snapshot.table.study_column, [uids(number)[0]]).to_pylist()
        return row


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """All cases have come in one hour."""
    root = tmp_path_factory.mktemp("field")
    (root / "columns.toml").write_text(COLUMNS, encoding="utf-8")
    urls = {table.name: str(root / table.name) for table in TABLES}
    store = steps.store_of(urls, tables=catalogue(TABLES, str(root / "columns.toml")))
    service, window = Service(), Window(HOUR, HOUR + 36_000_000_000)
    service.add(*(case.entry(n, stamp(HOUR + n)) for n, case in enumerate(CASES, 1)))
    run = Run("field", datetime.now(UTC))
    with (
        Running(service) as running,
        feed_of(running.url, reader=RowReader(store.tables["instance"])) as feed,
    ):
        steps.add_entries(store, window, feed, run)
        outcome = steps.follow_log(store, window, feed, run)
        for table in (SERIES, STUDY):
            steps.derive(store, table, window, run)
    return Filled(store, outcome.unparsable)


def test_every_case_lands(filled: Filled) -> None:
    """Whatever a value is, it costs no row."""
    assert rejected.sequences(filled.store) == []
    rows = filled.store.open(INSTANCE).rows(["sequence"])
    assert sorted(ints(rows["sequence"])) == list(range(1, len(CASES) + 1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_gives_its_right_values(filled: Filled, case: Case) -> None:
    """In `instance` and, derived from there, in `study`."""
    number = CASES.index(case) + 1
    instance, study = filled.row(INSTANCE, number), filled.row(STUDY, number)
    right = {name: number if name == "sequence" else value for name, value in case.instance.items()}
    assert {name: instance[name] for name in right} == right
    assert {name: study[name] for name in case.study} == case.study
    filled.row(SERIES, number)


def test_what_does_not_parse_is_counted_by_its_reason(filled: Filled) -> None:
    """And nothing else is."""
    assert filled.unparsable == Counter(reason for case in CASES for reason in case.unparsable)
