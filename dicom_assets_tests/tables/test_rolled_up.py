"""Rollups: what the live rows of `instance` make of a series and a study, and what differs."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TypeAlias

import pyarrow as pa
import pytest

from dicom_assets.feed_contract import Key
from dicom_assets.schema import DOUBLE, INSTANCE, SERIES, STUDY, Column, Table
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.rollup import columns_read, compare, roll_up
from dicom_assets_tests.support.tables import Row, key

# One live row of `instance`: its key and its values.
Live: TypeAlias = tuple[Key, Mapping[str, object]]

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def live(*rows: Live) -> pa.Table:
    """Live rows of `instance`: each a key and its values."""
    named = [dict(zip(INSTANCE.key, of, strict=True)) | dict(values) for of, values in rows]
    return pa.Table.from_pylist(named, schema=INSTANCE.arrow())


def made(table: Table, *rows: Live) -> list[Row]:
    """The rollup's rows, in the order of their keys."""
    found: list[Row] = roll_up(live(*rows).select(columns_read(table)), table).to_pylist()
    return sorted(found, key=lambda r: [str(r[name]) for name in table.key])


def only(table: Table, *rows: Live) -> Row:
    """The one row of the rollup."""
    (found,) = made(table, *rows)
    return found


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_a_rollup_reads_only_what_it_shows(table: Table) -> None:
    """No header is loaded to derive a study, and no column of the other table."""
    found = columns_read(table)
    assert len(set(found)) == len(found)
    shown = {source for column in table.columns for source in column.sources}
    assert set(found) == {*shown, *INSTANCE.key, "sequence"}
    assert not {"metadata", "metadata_string"} & set(found)
    assert ("modality" in found, "studyid" in found) == (True, table is STUDY)


def test_a_rollup_reads_what_a_user_added() -> None:
    """A column of theirs in `study`, over one of theirs in `instance`."""
    added = Column("greatestDose", DOUBLE, "dose", sources=("dose",), aggregate="max")
    table = replace(STUDY, columns=(*STUDY.columns, added))
    assert set(columns_read(table)) == {*columns_read(STUDY), "dose"}
    doses = live((key("1"), {}), (key("2"), {})).append_column("dose", pa.array([1.5, 2.5]))
    assert roll_up(doses, table)["greatestDose"].to_pylist() == [2.5]


VALUES = {
    "sequence": 4,
    "lastModifiedTimestamp": NOON,
    "studydate_formatted": DAY,
    "studydescription": "Thorax",
    "issuerofpatientid": "H",
    "patientid": "P1",
    "patientname": "Doe^Jane",
    "modality": "CT",
    "sopclassuid": "1.2.840.10008.5.1.4.1.1.2",
    "seriesnumber": "2",
    "numberofframes": 3,
    "acquisition_timestamp": NOON,
    "received_timestamp": NOON,
    "patientage_years": 40.5,
    "rows": 512,
    "procedure_code": "LN:24627-2",
}
SHARED = {
    "partitionName": "Microsoft.Default",
    "studyInstanceUid": "1.1",
    "lastModifiedTimestamp": NOON,
    "studyDate": DAY,
    "studyDescription": "Thorax",
    "issuerOfPatientId": "H",
    "patientId": "P1",
    "patientName": "Doe^Jane",
    "instanceCount": 1,
    "sequence": 4,
    "frameCount": 3,
    "firstAcquisitionTimestamp": NOON,
    "lastAcquisitionTimestamp": NOON,
    "firstReceivedTimestamp": NOON,
    "conflictCount": 0,
}
OF_SERIES = {
    "seriesInstanceUid": "1.1.1",
    "modality": "CT",
    "seriesNumber": 2,
    "sopClassUids": "1.2.840.10008.5.1.4.1.1.2",
    "sopClassNames": "CT Image Storage",
    "rows": 512,
}
OF_STUDY = {
    "seriesCount": 1,
    "procedureCode": "LN:24627-2",
    "patientAgeYears": 40.5,
    "modalitiesInStudy": "CT",
    "sopClassesInStudy": "1.2.840.10008.5.1.4.1.1.2",
    "acquisitionDurationSeconds": 0.0,
    "patientIdCount": 1,
    "wadoRsUri": None,
}


@pytest.mark.parametrize(("table", "own"), [(SERIES, OF_SERIES), (STUDY, OF_STUDY)])
def test_a_row_shows_its_instances(table: Table, own: Row) -> None:
    """Every column, from one instance; what it does not tell is null."""
    nothing = dict.fromkeys(table.names)
    assert only(table, (key(), VALUES)) == nothing | SHARED | own


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_the_columns_are_the_tables(table: Table) -> None:
    """In name, order and type, with rows or without."""
    for rows in ([], [(key(), {"sequence": 1})]):
        found = roll_up(live(*rows).select(columns_read(table)), table)
        assert found.schema.equals(table.arrow())
        assert found.num_rows == len(rows)


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_a_value_is_that_of_the_greatest_sequence_that_has_one(table: Table) -> None:
    """Each column by itself; neither order nor time decides."""
    rows: list[Live] = [
        (key("1"), {"sequence": 9, "patientid": "new"}),
        (key("2"), {"sequence": 7, "patientid": "old", "patientname": "A"}),
        (key("3"), {"sequence": 8, "patientname": None, "studydescription": "S"}),
    ]
    for order in (rows, rows[::-1]):
        found = only(table, *order)
        assert (found["patientId"], found["patientName"]) == ("new", "A")
        assert (found["studyDescription"], found["issuerOfPatientId"]) == ("S", None)
        assert found["sequence"] == 9


def test_an_empty_text_is_a_value() -> None:
    """Only null gives way to what an older instance says."""
    rows: list[Live] = [(key("1"), {"sequence": 2, "patientid": ""}), (key("2"), {"sequence": 1})]
    assert only(STUDY, *rows)["patientId"] == ""


def test_a_row_without_sequence_comes_before_any_other() -> None:
    """A table taken over from the template has such rows."""
    taken_over: Live = (key("1"), {"sequence": None, "patientid": "old", "patientname": "A"})
    ours: Live = (key("2"), {"sequence": 0, "patientid": "new"})
    orders: list[list[Live]] = [[taken_over, ours], [ours, taken_over]]
    for order in orders:
        found = only(STUDY, *order)
        assert (found["patientId"], found["patientName"], found["sequence"]) == ("new", "A", 0)
    assert only(STUDY, taken_over)["sequence"] is None


def test_rows_of_equal_rank_give_one_answer() -> None:
    """The key decides, not the order in which files are read."""
    rows: list[Live] = [(key(n), {"sequence": None, "patientid": n}) for n in "123"]
    assert {str(only(STUDY, *order)["patientId"]) for order in (rows, rows[::-1])} == {"3"}


def test_series_and_instances_are_counted() -> None:
    """Each series counts its own, the study all."""
    parts = [("1", "1"), ("2", "1"), ("3", "1"), ("4", "2")]
    rows: list[Live] = [(key(sop, series=series), {"sequence": 1}) for sop, series in parts]
    assert [r["instanceCount"] for r in made(SERIES, *rows)] == [3, 1]
    study = only(STUDY, *rows)
    assert (study["seriesCount"], study["instanceCount"]) == (2, 4)


def test_the_same_uids_in_two_data_partitions_are_two_studies() -> None:
    """Neither counts nor values mix."""
    rows: list[Live] = [
        (key("1", partition="a"), {"sequence": 1, "patientid": "A"}),
        (key("1", partition="b"), {"sequence": 9, "patientid": "B"}),
        (key("2", partition="b"), {"sequence": 2}),
    ]
    for table in (SERIES, STUDY):
        found = made(table, *rows)
        shown = [(r["partitionName"], r["patientId"], r["instanceCount"]) for r in found]
        assert shown == [("a", "A", 1), ("b", "B", 2)]


def study(
    uid: str = "1.1", values: Mapping[str, object] | None = None, partition: str = "a"
) -> Row:
    """One row of `study`."""
    named = {"partitionName": partition, "studyInstanceUid": uid}
    return named | {"seriesCount": 1, "instanceCount": 1, "sequence": 1} | dict(values or {})


def parts(existing: list[Row], derived: list[Row]) -> dict[str, list[str]]:
    """The UIDs in each part of the difference, parts without rows left out."""
    difference = differs(existing, derived)
    named = {n: getattr(difference, n) for n in ("inserts", "updates", "deletes")}
    found = {name: part["studyInstanceUid"].to_pylist() for name, part in named.items()}
    return {name: uids for name, uids in found.items() if uids}


def differs(existing: list[Row], derived: list[Row]) -> Difference:
    """The difference between two lists of studies."""
    old, new = (pa.Table.from_pylist(rows, schema=STUDY.arrow()) for rows in (existing, derived))
    return compare(old, new, STUDY)


def test_equal_rows_make_no_difference() -> None:
    """Nor do none; null is equal to null."""
    rows = [study("1.1"), study("1.2", {"patientId": "P"})]
    assert differs(rows, rows[::-1]).is_empty
    assert differs([], []).is_empty


def test_a_difference_has_new_changed_and_gone_rows() -> None:
    """Each by its key, whatever the order."""
    old = [study("1.1"), study("1.2"), study("1.3")]
    new = [study("1.4"), study("1.3"), study("1.2", {"sequence": 2})]
    assert parts(old, new) == {"inserts": ["1.4"], "updates": ["1.2"], "deletes": ["1.1"]}
    assert parts([], new) == {"inserts": ["1.4", "1.3", "1.2"]}
    assert parts(old, []) == {"deletes": ["1.1", "1.2", "1.3"]}


def test_a_deleted_row_is_named_by_its_key() -> None:
    """A delete needs nothing else."""
    assert differs([study()], []).deletes == pa.table(
        {"partitionName": ["a"], "studyInstanceUid": ["1.1"]}
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"patientId": None}, {"patientId": "P"}),
        ({"patientId": "P"}, {"patientId": None}),
        ({"patientId": ""}, {"patientId": None}),
        ({"patientId": "P"}, {"patientId": "p"}),
        ({"patientId": "P"}, {"patientId": "P "}),
        ({"studyDate": None}, {"studyDate": DAY}),
        ({"lastModifiedTimestamp": NOON}, {"lastModifiedTimestamp": None}),
        ({"instanceCount": 1}, {"instanceCount": 2}),
        ({"sequence": None}, {"sequence": 0}),
    ],
)
def test_a_value_and_none_and_another_value_differ(old: Row, new: Row) -> None:
    """In any column, in both directions; a whole row is written."""
    difference = differs([study("1", old)], [study("1", new)])
    assert difference.counts() == {"inserts": 0, "updates": 1, "deletes": 0, "patches": 0}
    assert difference.updates is not None
    assert difference.updates.column_names == STUDY.names


def test_an_address_alone_makes_no_difference() -> None:
    """A service that moved is no reason to write every row; one that is written has the new one."""
    old = [study(uid, {"wadoRsUri": "https://old"}) for uid in ("1", "2")]
    new = [study("1", {"wadoRsUri": "https://new"})]
    new += [study("2", {"wadoRsUri": "https://new", "instanceCount": 2})]
    assert differs(old, [old[0], new[0] | {"studyInstanceUid": "2"}]).is_empty
    difference = differs(old, new)
    assert difference.counts() == {"inserts": 0, "updates": 1, "deletes": 0, "patches": 0}
    assert difference.updates is not None
    assert difference.updates.select(["studyInstanceUid", "wadoRsUri"]).to_pylist() == [
        {"studyInstanceUid": "2", "wadoRsUri": "https://new"}
    ]


def test_the_same_study_in_two_data_partitions_is_compared_by_itself() -> None:
    """The key begins with the data partition."""
    old = [study(partition="a"), study(partition="b")]
    difference = differs(old, [study(values={"sequence": 5}, partition="b")])
    assert difference.deletes is not None
    assert difference.updates is not None
    assert difference.deletes["partitionName"].to_pylist() == ["a"]
    assert difference.updates["partitionName"].to_pylist() == ["b"]
