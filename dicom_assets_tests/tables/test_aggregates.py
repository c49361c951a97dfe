r"""Each aggregate, of live instances of a series or study.

Values of several instances are given as a list, the one with the least sequence first. In a text
`\` separates values.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_assets.schema import (
    DOUBLE,
    INSTANCE,
    INT32,
    INT64,
    SERIES,
    STRING,
    STUDY,
    Aggregate,
    Column,
    Table,
)
from dicom_assets.schema.attributes import uid_names
from dicom_assets.schema.tables import rolled
from dicom_assets.tables.rollup import columns_read, roll_up
from dicom_assets_tests.support.tables import DEFAULT, Row, key
from dicom_assets_tests.tables.replayed import BASE, Rows, arrow, by_arrow, by_hand

CT, MR, US, SC = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2", "4", "6.1", "7"))
DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

# One column of `instance` for each type that a rollup may read.
TYPED = ("modality", "rows", "sequence", "slicethickness", "studydate_formatted", "study_timestamp")
NUMBERS = ("rows", "sequence", "slicethickness")
_OF_ANY: tuple[Aggregate, ...] = ("latest", "same", "max", "min")


def own_name(aggregate: str, source: str) -> str:
    """The name of a column that a user added."""
    return f"{aggregate} of {source}"


def own(aggregate: Aggregate, source: str, type_: pa.DataType | None = None) -> Column:
    """A column that a user added."""
    return rolled(own_name(aggregate, source), aggregate, source, type_=type_)


def of_study(*columns: Column) -> Table:
    """A table with a row for each study: its key, and the columns."""
    return Table("study", STUDY.key, (*(STUDY[name] for name in STUDY.key), *columns))


OWN = of_study(
    *(own(aggregate, source) for source in TYPED for aggregate in _OF_ANY),
    *(own("count_distinct", source, INT64) for source in TYPED),
    *(own("mean", source, DOUBLE) for source in NUMBERS),
    *(own("sum", source, DOUBLE if source == "slicethickness" else INT64) for source in NUMBERS),
    own("distinct", "modality"),
    own("distinct", "rows", STRING),
)
"""Whatever a user may add."""

Values: TypeAlias = Mapping[str, object]


def rows_of(*values: Values) -> Rows:
    """Live instances of one series, in the order of their sequence."""
    named = [dict(zip(INSTANCE.key, key(str(n)), strict=True)) for n in range(len(values))]
    return [
        n | {"sequence": i} | dict(v) for i, (n, v) in enumerate(zip(named, values, strict=True))
    ]


def made(column: Column, *values: Values, base: str | None = BASE) -> object:
    """Return the value of a column for live instances of one study, read in any order."""
    rows = rows_of(*values)
    shown = [
        by_arrow(order, of_study(column), base)[0][column.name] for order in (rows, rows[::-1])
    ]
    assert shown[0] == shown[1]
    return shown[0]


def of(column: Column, values: list[Any]) -> object:
    """The same for a column of one source."""
    return made(column, *({column.sources[0]: value} for value in values))


# --- which value ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["a", "b"], "b"),
        (["a", None], "a"),
        (["b", "", None], ""),
        ([None, None], None),
    ],
)
def test_latest_is_the_last_value_that_is_not_null(values: list[Any], shown: object) -> None:
    """An empty text is a value."""
    assert of(STUDY["accessionNumber"], values) == shown


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (["3"], 3),
        ([" 12 "], 12),
        (["+5"], 5),
        (["-7"], -7),
        (["007"], 7),
        (["4.0"], 4),
        (["2147483647"], 2147483647),
        (["2147483648"], None),
        (["-2147483649"], None),
        (["9" * 5000], None),
        (["1.5"], None),
        (["1e2"], None),
        (["1\\2"], None),
        (["x"], None),
        ([""], None),
        (["nan"], None),
        (["٣"], None),
        ([None], None),
        (["8", "x"], 8),
        (["8", "x", "9", None, ""], 9),
    ],
)
def test_a_series_number_is_the_latest_text_that_is_one(texts: list[Any], number: object) -> None:
    """The template keeps it as text; what is none is passed over, and nothing fails."""
    assert of(SERIES["seriesNumber"], texts) == number


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([512, 512], 512),
        ([512, None, 512], 512),
        ([512, 256], None),
        ([512, 256, 512], None),
        ([0], 0),
        ([None], None),
    ],
)
def test_same_is_null_where_instances_differ(values: list[Any], shown: object) -> None:
    """One that has no value does not differ."""
    assert of(SERIES["rows"], values) == shown


@pytest.mark.parametrize(
    ("values", "least", "greatest"),
    [
        (["b", None, "a", "é", "Z"], "Z", "é"),
        (["b", ""], "", "b"),
        ([None], None, None),
    ],
)
def test_texts_are_compared_by_code_points(
    values: list[Any], least: object, greatest: object
) -> None:
    """Capital letters come first."""
    assert of(own("min", "modality"), values) == least
    assert of(own("max", "modality"), values) == greatest


def test_numbers_and_times_are_compared_by_value() -> None:
    """Not as texts."""
    assert of(own("max", "rows"), [9, 10, None, -1]) == 10
    assert of(own("min", "rows"), [9, 10, None, -1]) == -1
    assert of(own("min", "studydate_formatted"), [DAY, None, DAY - timedelta(1)]) == date(
        2025, 12, 31
    )
    assert of(own("max", "study_timestamp"), [NOON, NOON + SECOND]) == NOON + SECOND


def test_of_several_columns_the_first_that_has_a_value_counts() -> None:
    """Instance by instance."""
    first, last = STUDY["firstAcquisitionTimestamp"], STUDY["lastAcquisitionTimestamp"]
    instances: list[Values] = [
        {"acquisition_timestamp": NOON, "content_timestamp": NOON - 9 * SECOND},
        {"acquisition_timestamp": None, "content_timestamp": NOON + SECOND},
        {"acquisition_timestamp": None, "content_timestamp": None},
    ]
    assert (made(first, *instances), made(last, *instances)) == (NOON, NOON + SECOND)
    assert (made(first, {}), made(last, {})) == (None, None)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "values", "total", "mean"),
    [
        ("rows", [1, 2, None], 3, 1.5),
        ("rows", [2**31 - 1] * 3, 3 * (2**31 - 1), 2.0**31 - 1),
        ("slicethickness", [0.5, None, 0.75, 0.25], 1.5, 0.5),
        ("rows", [0, 0], 0, 0.0),
        ("rows", [None, None], None, None),
    ],
)
def test_sum_and_mean_leave_out_null(
    source: str, values: list[Any], total: object, mean: object
) -> None:
    """A sum of 32-bit numbers has 64; of nothing there is neither."""
    assert of(own("sum", source, DOUBLE if source == "slicethickness" else INT64), values) == total
    assert of(own("mean", source, DOUBLE), values) == mean


def test_a_sum_does_not_depend_on_the_order_of_reads() -> None:
    """Else a second run would write rows again: floating-point addition is not associative."""
    values = [1e16, 1.0, -1e16, 0.1, 1e-3, 3e15, -3e15, 0.7]
    rows = rows_of(*({"slicethickness": value} for value in values))
    for aggregate in ("sum", "mean"):
        column = own(aggregate, "slicethickness", DOUBLE)
        table = of_study(column)
        orders = [rows[i:] + rows[:i] for i in range(len(rows))]
        assert len({by_arrow(order, table)[0][column.name] for order in orders}) == 1


@pytest.mark.parametrize(
    ("values", "type_", "shown"),
    [
        ([2**31 - 1, None], INT32, 2**31 - 1),
        ([2**31], INT32, None),
        ([2**60 + 1], INT64, 2**60 + 1),
    ],
)
def test_a_number_that_does_not_fit_is_null(
    values: list[Any], type_: pa.DataType, shown: object
) -> None:
    """In a column that is narrower than what it reads; nothing fails."""
    for aggregate in ("latest", "same", "max", "min", "sum"):
        assert of(own(aggregate, "sequence", type_), values) == shown


@pytest.mark.parametrize(
    ("values", "frames"),
    [([None], 1), ([0, -3], 2), ([1, 30, None], 32), ([2**31 - 1] * 2, 2**32 - 2)],
)
def test_an_instance_is_at_least_one_frame(values: list[Any], frames: int) -> None:
    """Also one that tells none, or no number of them."""
    assert of(SERIES["frameCount"], values) == frames


@pytest.mark.parametrize(
    ("moments", "seconds"),
    [
        ([None], None),
        ([NOON], 0.0),
        ([NOON, None, NOON + SECOND], 1.0),
        ([NOON + SECOND * 0.25, NOON - 2 * SECOND], 2.25),
        ([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)], 315537811200.0),
    ],
)
def test_a_span_is_in_seconds(moments: list[Any], seconds: object) -> None:
    """From the first to the last, whichever was stored first."""
    assert of(STUDY["acquisitionDurationSeconds"], moments) == seconds


def test_a_span_takes_the_times_that_its_ends_take() -> None:
    """Acquisition times, and content times for want of one."""
    instances: list[Values] = [
        {"acquisition_timestamp": NOON, "content_timestamp": NOON - 60 * SECOND},
        {"content_timestamp": NOON + 3 * SECOND},
    ]
    assert made(STUDY["acquisitionDurationSeconds"], *instances) == 3.0


# --- how many, and which --------------------------------------------------------------------------


def test_all_instances_are_counted_and_different_values_without_null() -> None:
    """An empty text is one."""
    values = ["a", "b", None, "a", ""]
    assert made(STUDY["instanceCount"], *({"patientid": value} for value in values)) == 5
    assert of(STUDY["patientIdCount"], values) == 3
    assert of(STUDY["patientIdCount"], [None]) == 0


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["CT", "MR", "CT"], "CT\\MR"),
        (["b", "a", "é", "Z", "aa"], "Z\\a\\aa\\b\\é"),
        (["MR\\CT", "CT\\US"], "CT\\MR\\US"),
        (["a\\\\b", "", None, "\\"], "a\\b"),
        (["", "\\", None], None),
        ([None], None),
    ],
)
def test_distinct_values_are_joined_in_order(values: list[Any], shown: object) -> None:
    """Each once, also those of one instance; what is empty is none."""
    assert of(STUDY["modalitiesInStudy"], values) == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([CT], "CT Image Storage"),
        ([US, SC, US], "Secondary Capture Image Storage\\Ultrasound Image Storage"),
        ([f"{MR}\\{CT}"], "CT Image Storage\\MR Image Storage"),
        (["1.2.3", MR], "1.2.3\\MR Image Storage"),
        ([None, ""], None),
    ],
)
def test_sop_classes_are_named(values: list[Any], shown: object) -> None:
    """In the order of their names; one that PS3.6 does not have stands for itself."""
    assert of(SERIES["sopClassNames"], values) == shown


def test_two_uids_of_one_name_are_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name says what is there, not how many."""
    monkeypatch.setitem(uid_names(), "1.2.3", uid_names()[CT])
    assert of(SERIES["sopClassNames"], ["1.2.3", CT]) == "CT Image Storage"


def test_conflicts_count_attributes_with_several_values() -> None:
    """Each by itself: a series description does not stand in for a missing protocol name."""
    column = SERIES["conflictCount"]
    assert made(column, {"modality": "CT"}, {"modality": "CT"}) == 0
    assert made(column, {"modality": "CT"}, {"modality": None}) == 0
    assert made(column, {"modality": "CT"}, {"modality": "MR"}, {"modality": "US"}) == 1
    assert made(column, {"seriesdescription": "a"}, {"protocolname": "b"}) == 0
    several: list[Values] = [{"modality": m, "protocolname": m, "laterality": "L"} for m in "ab"]
    assert made(column, *several, {"laterality": "R"}) == 3
    assert made(column, {}) == 0


def test_days_and_texts_conflict_alike() -> None:
    """A study has both."""
    days: list[Values] = [
        {"studydate_formatted": DAY + timedelta(n), "patientid": "A"} for n in (0, 1)
    ]
    assert made(STUDY["conflictCount"], *days) == 1


# --- where ----------------------------------------------------------------------------------------


def test_an_address_is_the_studys_in_its_data_partition() -> None:
    """The default one has no place in it, as services without data partitions have none."""
    rows: Rows = [
        dict(zip(INSTANCE.key, key("1", study, partition=partition), strict=True))
        for partition, study in ((DEFAULT, "1"), (DEFAULT, "2"), ("b", "1"))
    ]
    table = of_study(STUDY["wadoRsUri"])
    assert [row["wadoRsUri"] for row in by_arrow(rows, table)] == [
        "https://host/v2/studies/1.1",
        "https://host/v2/studies/1.2",
        "https://host/v2/partitions/b/studies/1.1",
    ]
    assert [row["wadoRsUri"] for row in by_arrow(rows, table, None)] == [None] * 3


# --- all of them ----------------------------------------------------------------------------------

_TEXTS = [
    "",
    "A",
    "B",
    "a",
    "A\\B",
    "B\\A\\\\B",
    "\\",
    "é",
    "5",
    " +5 ",
    "07",
    "5.0",
    "x",
    "9" * 12,
]
_POOLS: dict[pa.DataType, list[Any]] = {
    STRING: _TEXTS,
    INT32: [0, 1, 2, -1, 512, 2**31 - 1, -(2**31)],
    INT64: [0, 1, 2, 2**40],
    DOUBLE: [0.0, 0.25, -1.5, 3.0, 1024.0],
    INSTANCE["studydate_formatted"].type: [
        DAY,
        DAY - timedelta(1),
        date(1, 1, 1),
        date(9999, 12, 31),
    ],
    INSTANCE["study_timestamp"].type: [NOON, NOON + SECOND, NOON - timedelta(microseconds=1)],
}
_POOL = {"sopclassuid": [CT, US, SC, "1.2.3", f"{US}\\{MR}", "", "\\"]}


_SERIES_OF = [("1", "1", DEFAULT), ("1", "2", DEFAULT), ("2", "1", DEFAULT), ("1", "1", "b")]


def live_rows(random: Random, count: int, table: Table) -> Rows:
    """So many live instances of a few series; some columns have few values, some have many."""
    named = [column for column in columns_read(table) if column not in INSTANCE.key]
    pools = {name: _POOL.get(name) or _POOLS[INSTANCE[name].type] for name in named}
    few = {n: [None, *random.sample(p, random.randrange(len(p)))] for n, p in pools.items()}
    keys = {key(random.choice("123456"), *random.choice(_SERIES_OF)) for _ in range(count)}
    return [
        dict(zip(INSTANCE.key, of, strict=True)) | {n: random.choice(p) for n, p in few.items()}
        for of in sorted(keys)
    ]


@pytest.mark.parametrize("table", [SERIES, STUDY, OWN], ids=["series", "study", "own"])
@given(random=st.randoms(use_true_random=True), count=st.integers(0, 16))
@settings(max_examples=60)  # each looks at every column
def test_every_column_is_what_plain_python_makes_of_it(
    table: Table, random: Random, count: int
) -> None:
    """Of any instances, in whatever order they are read."""
    rows = live_rows(random, count, table)
    expected = by_hand(rows, table)
    assert by_arrow(rows, table) == expected
    assert by_arrow(random.sample(rows, len(rows)), table) == expected


@pytest.mark.parametrize("column", OWN.columns, ids=lambda column: column.name)
def test_nothing_makes_no_rows(column: Column) -> None:
    """And has the column's type."""
    table = of_study(column)
    found = roll_up(arrow([], table), table, BASE)
    assert found.num_rows == 0
    assert found.schema.equals(table.arrow())


@pytest.mark.parametrize("table", [SERIES, STUDY, OWN], ids=["series", "study", "own"])
def test_a_table_in_pieces_is_one_table(table: Table) -> None:
    """As Delta reads it: a piece for each of its files, some of them empty."""
    several = [
        {"modality": m, "sopclassuid": u, "rows": n} for m, u, n in (("b", CT, 1), ("a", MR, 2))
    ]
    rows = rows_of(*several, *several)
    whole = arrow(rows, table)
    pieces = pa.concat_tables([whole.slice(i, n) for i, n in ((0, 1), (1, 0), (1, 2), (3, 1))])
    found: list[Row] = roll_up(pieces, table, BASE).to_pylist()
    assert found == by_hand(rows, table)
