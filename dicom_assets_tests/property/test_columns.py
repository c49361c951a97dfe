"""Many thousand random headers through the extraction, and rows of them through the rollup.

Neither Delta nor HTTP: what is asked is whether every column shows what the oracle says. A failure
names its seed, and the header and the column, or the key.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dicom_assets.header.extraction import extraction
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables import rollup
from dicom_assets_tests.property.expected import Header, Row, series_of, shown, studies_of
from dicom_assets_tests.property.headers import RICH, header
from dicom_assets_tests.property.histories import PARTITIONS, START
from dicom_assets_tests.property.oracle import Key, moment_of, served
from dicom_assets_tests.property.values import are_equal
from dicom_assets_tests.property.world import same
from dicom_assets_tests.support.samples import TIMES

SWEEPS = 20 * TIMES
HEADERS = 400
URL = "https://dicom.example"


def header_of(seed: int, number: int) -> Header:
    """The header of that number in a sweep."""
    return header(Random(f"{seed}/{number}"), Key(PARTITIONS[0], "1.5", "1.7", "1.8"), RICH)


def sweep_extraction(seed: int, count: int) -> None:
    """So many headers of a seed are extracted at once, as those of a page are."""
    headers = [header_of(seed, number) for number in range(count)]
    reader = extraction(INSTANCE)
    decoded = [reader.decode(served(made).encode()) for made in headers]
    columns, _ = reader.columns([found for found in decoded if found is not None])
    for number, made in enumerate(headers):
        for name, expected in shown(made).items():
            found = columns[name][number]
            assert are_equal(found, expected), f"{seed}/{number} {name}: {found!r}, {expected!r}"


def rows_of(seed: int, count: int) -> list[Row]:
    """So many live rows of `instance`, in no order: a few in each series, and series of one."""
    random = Random(seed)
    sequences = random.sample(range(1, 2**40), count)
    return [_row(random, header_of(seed, number), at) for number, at in enumerate(sequences)]


def _row(random: Random, made: Header, sequence: int) -> Row:
    study, series = f"1.5.{random.randrange(50)}", f"1.7.{random.randrange(3)}"
    changed = moment_of(START + random.randrange(10**12))
    return shown(made) | {
        "partitionName": random.choice(PARTITIONS),
        "studyinstanceuid": study,
        "seriesinstanceuid": series,
        "sopinstanceuid": f"1.8.{sequence}",
        "sequence": sequence,
        "lastModifiedTimestamp": changed,
        "received_timestamp": random.choice((None, changed, changed - timedelta(minutes=1))),
    }


def sweep_rollup(seed: int, count: int) -> None:
    """So many rows of a seed are rolled up at once."""
    rows = rows_of(seed, count)
    for table, expected in ((SERIES, series_of(rows)), (STUDY, studies_of(rows, URL))):
        read = INSTANCE.arrow(rollup.columns_read(table))
        found = rollup.roll_up(pa.Table.from_pylist(rows, read), table, f"{URL}/v2")
        same(table.name, found.to_pylist(), expected)


@settings(max_examples=SWEEPS, deadline=None, phases=[Phase.generate], database=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_every_column_of_instance_shows_what_its_attributes_say(seed: int) -> None:
    """Padded, several, empty, odd and misshapen ones too; `header_of` gives a header again."""
    sweep_extraction(seed, HEADERS)


@settings(max_examples=SWEEPS, deadline=None, phases=[Phase.generate], database=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_every_column_of_series_and_study_shows_its_instances(seed: int) -> None:
    """Whatever the order of the rows; `rows_of` gives them again."""
    sweep_rollup(seed, HEADERS)


def test_most_columns_have_a_value_and_some_headers_have_none() -> None:
    """What is null everywhere would be compared in vain."""
    rows = [shown(header_of(1, number)) for number in range(HEADERS)]
    for name in rows[0]:
        filled = sum(row[name] is not None for row in rows)
        assert HEADERS // 25 < filled < HEADERS, name


def test_most_rollups_have_a_value_and_something_to_choose_from() -> None:
    """Neither null everywhere, nor the same, and instances contradict one another."""
    rows = rows_of(1, HEADERS)
    for made in (series_of(rows), studies_of(rows, URL)):
        for name in made[0]:
            found = {row[name] for row in made} - {None}
            assert len(found) > 1, name
        assert max(row["conflictCount"] for row in made) > 4
