"""Taking over tables of Data Factory's template: what is found, done, refused and taken back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from dicom_assets.commands.migrate import migration
from dicom_assets.commands.migrate.migration import (
    Inspection,
    cost_of,
    inspect_tables,
    take_over_tables,
)
from dicom_assets.commands.migrate.template import (
    StudyPart,
    TableReader,
    in_part,
    study_parts,
    template_columns,
)
from dicom_assets.errors import ConflictError, ForeignTableError, NotYetError
from dicom_assets.schema import INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables.delta.commit import RETENTION, Difference
from dicom_assets.tables.delta.foreign import TAKEN_OVER_AT
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.instance import BOTH, HEADER_FORM
from dicom_assets.tables.upkeep.padded_keys import is_due
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.samples import crossed
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import (
    Bench,
    contents,
    hours,
    instances,
    key,
    row,
    run,
)
from dicom_assets_tests.support.template import INSTANCE as THEIR_INSTANCE
from dicom_assets_tests.support.template import SERIES as THEIR_SERIES
from dicom_assets_tests.support.template import STUDY as THEIR_STUDY
from dicom_assets_tests.support.template import Template, columns

WRITTEN: Final = datetime(2026, 1, 1, 9, tzinfo=UTC)
LATER: Final = WRITTEN + timedelta(hours=3)
TYPES: Final[dict[str, pa.DataType]] = {
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "long": pa.int64(),
    "map": INSTANCE["metadata"].type,
}
GENERATIONS: Final = pytest.mark.parametrize("generation", [1, 2, 3])


def entry(sop: str = "1", series: str = "1", study: str = "1", **more: object) -> dict[str, Any]:
    """An entry of the feed with a header, as the service serves it to the template."""
    partition, *uids = key(sop, study, series)
    texts = {
        "00080060": ("CS", "CT"),
        "00081030": ("LO", "Abdomen"),
        "00080020": ("DA", "20260102"),
    }
    header: dict[str, Any] = {t: {"vr": vr, "Value": [v]} for t, (vr, v) in texts.items()}
    header["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": "A^One"}]}
    named = zip(("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid"), uids, strict=True)
    told: dict[str, Any] = {"action": "Create", "timestamp": "2026-01-01T00:00:01.1234567+00:00"}
    told |= {"metadata": header, "filePath": f"https://store/{sop}.dcm"}
    return {"partitionName": partition, **dict(named), **told, **more}


def delete(sop: str = "1", series: str = "1", study: str = "1") -> dict[str, Any]:
    """The entry of a deleted instance."""
    gone = entry(sop, series, study, action="Delete")
    return {name: value for name, value in gone.items() if name not in {"metadata", "filePath"}}


def template(root: Path, generation: int = 3, **more: Any) -> Template:  # noqa: ANN401 - its own fields
    """The template's tables: two live instances of two series, and a study that was deleted."""
    left = Template(root, generation, **more)
    left.take([entry("1"), entry("2", "2"), entry("3", study="2")], WRITTEN - timedelta(hours=1))
    left.take([delete("3", study="2")], WRITTEN)
    return left


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """The store of the template's third generation."""
    template(tmp_path)
    return store_in(tmp_path)


def finding(store: Store, name: str = "instance") -> Inspection:
    """What is found of one table."""
    return next(found for found in inspect_tables(store) if found.name == name)


def delta(store: Store, name: str = "instance") -> DeltaTable:
    """The table itself, at its newest version."""
    return DeltaTable(store.urls[name])


def select(table: DeltaTable, sql: str) -> list[dict[str, Any]]:
    """What Delta's own engine says of the table `t`."""
    found: list[dict[str, Any]] = pa.table(
        QueryBuilder().register("t", table).execute(sql).read_all()
    ).to_pylist()
    return found


def version(store: Store) -> dict[str, int]:
    """The versions of the three tables."""
    return {table.name: store.version(table) for table in (INSTANCE, SERIES, STUDY)}


# --- the columns ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "theirs"),
    [(INSTANCE, THEIR_INSTANCE[3]), (SERIES, THEIR_SERIES), (STUDY, THEIR_STUDY)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_templates_columns_come_first_and_as_they_are(table: Table, theirs: str) -> None:
    """Name, case, order and type, byte for byte."""
    expected = [(name, TYPES[kind]) for name, kind in columns(theirs).items()]
    assert [(c.name, c.type) for c in table.columns][: len(expected)] == expected
    assert [(c.name, c.type) for c in template_columns(table)] == expected


# --- check ----------------------------------------------------------------------------------------


def test_nothing_there_is_nothing_to_do(store: Store) -> None:
    """Three absent tables."""
    found = inspect_tables(store)
    assert [(f.name, f.version, f.is_due) for f in found] == [
        ("instance", -1, False),
        ("series", -1, False),
        ("study", -1, False),
    ]
    assert take_over_tables(store, LATER) == []


@GENERATIONS
def test_check_says_what_each_table_is(tmp_path: Path, generation: int) -> None:
    """Which generation, how many rows, what is missing, what is stale, who wrote last."""
    template(tmp_path, generation)
    instance, series, study = inspect_tables(store_in(tmp_path))
    assert (instance.generation, instance.is_old) == (generation, generation < 3)
    assert [(f.rows, f.unnumbered, f.stale) for f in (instance, series, study)] == [
        (2, 2, 0),
        (3, 3, 1),
        (2, 2, 1),
    ]
    assert {"sequence", "received_timestamp"} <= set(instance.added)
    assert series.added[0] == study.added[0] == "sequence"
    assert instance.has_map == (generation == 3)
    assert [f.newest.at for f in (instance, series, study) if f.newest] == [WRITTEN] * 3
    assert all(f.is_due and f.before is None and not f.obstacles for f in (instance, series, study))


def test_check_changes_nothing(old: Store) -> None:
    """No version, and no file."""
    files = sorted(Path(old.urls["instance"]).rglob("*"))
    before = version(old)
    inspect_tables(old)
    assert version(old) == before
    assert sorted(Path(old.urls["instance"]).rglob("*")) == files


def test_what_is_missing_of_the_third_generation_is_what_ours_adds(old: Store) -> None:
    """None of the template's own columns."""
    theirs = set(columns(THEIR_INSTANCE[3]))
    assert set(finding(old).added) == set(INSTANCE.names) - theirs


def test_the_cost_is_one_header_for_each_row_without_a_sequence(old: Store) -> None:
    """Requests of a page each, at a stated rate."""
    found = [replace(finding(old), unnumbered=1_000_001), finding(old, "series")]
    told = cost_of(found, 200)
    assert (told.rows, told.requests) == (1_000_001, 5_001)
    assert told.minutes == pytest.approx(5_001 * 0.5 / 8 / 60)


@pytest.mark.parametrize("most", [60, 30, 5, 1])
def test_parts_hold_every_study_once(store: Store, most: int) -> None:
    """Whatever a UID looks like, one part has it."""
    uids = ["1", "1.2.3", "", None, _uid_at("8000"), *(f"2.25.{n}" for n in range(50))]
    rows = pa.table({"u": pa.array(uids, pa.string())})
    write_deltalake(store.urls["change"], rows)
    parts = study_parts(len(uids), most)
    assert len(parts) == {60: 1, 30: 2, 5: 11, 1: 55}[most]
    found = [_uids_in(store, part) for part in parts]
    assert sorted(map(repr, chain.from_iterable(found))) == sorted(map(repr, uids))
    assert max(map(len, found)) <= {60: 55, 30: 32, 5: 12, 1: 6}[most]


def _uid_at(digits: str) -> str:
    """A UID whose digest begins with these digits: where one part ends and another begins."""
    uids = (f"2.25.{number}" for number in count(1_000))
    return next(u for u in uids if md5(u.encode(), usedforsecurity=False).hexdigest()[:4] == digits)


def _uids_in(store: Store, part: StudyPart) -> list[object]:
    sql = f"SELECT u FROM t WHERE {in_part('u', part)}"  # noqa: S608 - what is tested
    return [row["u"] for row in select(delta(store, "change"), sql)]


# --- apply ----------------------------------------------------------------------------------------

_SHOWN: Final = (
    "studyinstanceuid",
    "sopinstanceuid",
    "studydate",
    "studydate_formatted",
    "studydescription",
    "patientname",
    "modality",
    "filepath",
    "sequence",
)


@GENERATIONS
@pytest.mark.parametrize("int96", [True, False])
def test_taken_over_tables_are_ours_and_hold_what_they_held(
    tmp_path: Path, generation: int, int96: bool
) -> None:
    """The store opens them; the template's rows are there, under the names of today."""
    left = template(tmp_path, generation, int96=int96)
    store = store_in(tmp_path)
    done = take_over_tables(store, LATER)
    assert [d.name for d in done] == ["instance", "series", "study"]
    rows = store.open(INSTANCE).rows()
    assert rows.schema.equals(INSTANCE.arrow())
    assert len(rows) == len(left.tables["instance"].rows) == 2
    day = datetime(2026, 1, 2, tzinfo=UTC).date()
    for held in rows.to_pylist():
        assert (held["studydate"], held["studydate_formatted"]) == ("20260102", day)
        assert held["lastModifiedTimestamp"] == datetime(2026, 1, 1, 0, 0, 1, 123000, UTC)
        assert (held["patientname"], held["modality"]) == ("A^One", "CT")
        assert (held["filepath"] is None) == (generation == 1)
        assert (held["metadata_string"] is None) == (generation == 2)
        assert (held["metadata"] is not None) == (generation == 3)
        assert held["sequence"] is None
    (one,) = contents(store, STUDY, "studyInstanceUid", "seriesCount", "instanceCount", "sequence")
    assert one == ("1.1", 2, 2, None)


@GENERATIONS
def test_a_table_is_changed_in_two_commits_or_three(tmp_path: Path, generation: int) -> None:
    """Properties, columns or rows, and stale rows; each says that it is ours."""
    template(tmp_path, generation)
    store = store_in(tmp_path)
    done = {d.name: d for d in take_over_tables(store, LATER)}
    assert {n: (d.before, d.after) for n, d in done.items()} == {
        "instance": (1, 3),
        "series": (1, 4),
        "study": (1, 4),
    }
    assert (done["instance"].rewritten, done["series"].removed) == (2 if generation < 3 else 0, 1)
    told = [commit.get("dicom_assets") for commit in delta(store, "series").history()]
    steps = [note and json.loads(note)["migrate"] for note in reversed(told)]
    assert steps == [None, None, "properties", "columns", "stale"]


@GENERATIONS
def test_applying_again_does_nothing(tmp_path: Path, generation: int) -> None:
    """No table is due, no version is written."""
    template(tmp_path, generation)
    store = store_in(tmp_path)
    take_over_tables(store, LATER)
    before = version(store)
    assert [f.is_due for f in inspect_tables(store)] == [False] * 3
    assert take_over_tables(store, LATER) == []
    assert version(store) == before


def test_rows_that_no_instance_backs_are_gone_and_can_be_looked_up(old: Store) -> None:
    """In `series` and `study`; time travel still has them."""
    take_over_tables(old, LATER)
    assert contents(old, SERIES, "seriesInstanceUid") == [("1.1.1",), ("1.1.2",)]
    assert contents(old, STUDY, "studyInstanceUid") == [("1.1",)]
    before = DeltaTable(old.urls["study"], version=1)
    assert len(select(before, "SELECT * FROM t")) == 2


def test_stale_is_what_has_no_instance_of_the_same_data_partition(tmp_path: Path) -> None:
    """The same UIDs in two data partitions are two studies."""
    left = Template(tmp_path)
    left.take([entry("1"), entry("1", partitionName="other")], WRITTEN)
    gone = dict.fromkeys(("partitionName",), "other")
    left.take([delete("1") | gone], WRITTEN)
    take_over_tables(store_in(tmp_path), LATER)
    assert contents(store_in(tmp_path), STUDY, "partitionName") == [("Microsoft.Default",)]


def test_parts_do_not_change_what_is_found(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies compared one by one, or all at once."""
    whole = inspect_tables(old)
    monkeypatch.setattr(migration, "KEYS_AT_ONCE", 1)
    assert inspect_tables(old) == whole
    take_over_tables(old, LATER)
    assert contents(old, STUDY, "studyInstanceUid") == [("1.1",)]


def test_a_key_that_stands_twice_goes_until_its_hour_runs(tmp_path: Path) -> None:
    """A merge would update both rows for ever; without a row the header is read and inserted."""
    left = template(tmp_path)
    doubled = left.tables["instance"]
    (one, two) = doubled.rows.values()
    doubled.commit({**doubled.rows, ("Microsoft.Default", "again"): one}, WRITTEN)
    store = store_in(tmp_path)
    assert (finding(store).rows, finding(store).doubled) == (3, 1)
    (done, *_) = take_over_tables(store, LATER)
    assert done.removed == 1
    assert contents(store, INSTANCE, "sopinstanceuid") == [(two["sopinstanceuid"],)]


@GENERATIONS
def test_padding_in_uids_is_removed(tmp_path: Path, generation: int) -> None:
    """At each level, in each generation, and of rows that become one the newest stays."""
    newer = {"timestamp": "2026-01-01T00:00:02.1234567+00:00"}
    left = template(tmp_path, generation)
    # Rows of the template follow each page, so all of a study are there at once.
    left.take(
        [
            entry("1", studyInstanceUid="1.1 ", **newer),
            entry("2", "2", seriesInstanceUid="1.1.2\0", sopInstanceUid="1.1.2.2 "),
            entry("4", study="4", studyInstanceUid="1.4 "),
        ],
        WRITTEN,
    )
    store = store_in(tmp_path)
    assert [found.padded for found in inspect_tables(store)] == [3, 3, 2]
    take_over_tables(store, LATER)
    assert contents(store, INSTANCE, *INSTANCE.key) == [key("1"), key("2", "1", "2"), key("4", "4")]
    moments = contents(store, INSTANCE, "sopinstanceuid", "lastModifiedTimestamp")
    assert moments[0] == ("1.1.1.1", datetime(2026, 1, 1, 0, 0, 2, 123000, UTC))
    assert contents(store, SERIES, *SERIES.key) == [
        key("1")[:3],
        key("2", "1", "2")[:3],
        key("4", "4")[:3],
    ]
    assert contents(store, STUDY, *STUDY.key, "instanceCount") == [
        (*key("1")[:2], 2),
        (*key("4", "4")[:2], 1),
    ]
    assert not is_due(store)
    assert [found.is_due for found in inspect_tables(store)] == [False] * 3


def test_padded_keys_of_a_table_that_was_taken_over_are_due(tmp_path: Path) -> None:
    """Applying again strips them, as after an interruption."""
    left = template(tmp_path)
    left.take([entry("1", studyInstanceUid="1.1 ")], WRITTEN)
    store = store_in(tmp_path)
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(migration, "strip_keys", lambda *_: None)
        earlier.setattr(migration, "mark_stripped", lambda *_: None)
        take_over_tables(store, LATER)
    assert is_due(store)
    assert [found.is_due for found in inspect_tables(store)] == [True] * 3
    take_over_tables(store, LATER)
    assert {study for (study,) in contents(store, STUDY, "studyInstanceUid")} == {"1.1"}
    assert not is_due(store)


def test_columns_of_somebody_else_stay_with_their_values(tmp_path: Path) -> None:
    """Whether the table is widened or rewritten, and when our rows are merged into it."""
    for generation in (2, 3):
        root = tmp_path / str(generation)
        left = Template(root, generation)
        left.tables["instance"].columns["ward"] = "string"
        left.take([entry("1"), entry("2")], WRITTEN)
        rows = left.tables["instance"].rows
        left.tables["instance"].commit({k: {**r, "ward": "B7"} for k, r in rows.items()}, WRITTEN)
        store = store_in(root)
        assert finding(store).others == ("ward",)
        take_over_tables(store, LATER)
        updates = instances(row(7, "1", patientid="P"))
        store.open(INSTANCE).commit(Difference(INSTANCE, updates=updates), {"run_id": "r"})
        held = select(delta(store), 'SELECT ward, "sequence" FROM t ORDER BY sopinstanceuid')
        assert held == [{"ward": "B7", "sequence": 7}, {"ward": "B7", "sequence": None}]


def test_what_its_owner_has_set_stays_and_the_rest_is_as_in_a_table_of_ours(
    tmp_path: Path,
) -> None:
    """Retention and clean-up of a table that was created here; the map is filled on."""
    left = Template(tmp_path)
    left.tables["instance"].configuration["delta.logRetentionDuration"] = "interval 400 days"
    left.take([entry("1")], WRITTEN)
    take_over_tables(replace(store_in(tmp_path), retention_hours=200), LATER)
    told = delta(store_in(tmp_path)).metadata().configuration
    assert told["delta.logRetentionDuration"] == "interval 400 days"
    assert told["delta.autoOptimize.autoCompact"] == "true"
    assert (told[RETENTION], told[TAKEN_OVER_AT]) == ("interval 200 hours", "0")
    assert told[HEADER_FORM] == BOTH
    assert HEADER_FORM not in delta(store_in(tmp_path), "series").metadata().configuration


@GENERATIONS
def test_only_a_filled_map_is_filled_on(tmp_path: Path, generation: int) -> None:
    """The first two generations have none, and a third may have been told not to fill it."""
    left = Template(tmp_path, generation)
    left.take([entry("1")], WRITTEN)
    rows = left.tables["instance"].rows
    if generation == 3:
        left.tables["instance"].commit(
            {k: {**r, "metadata": None} for k, r in rows.items()}, WRITTEN
        )
    take_over_tables(store_in(tmp_path), LATER)
    assert HEADER_FORM not in delta(store_in(tmp_path)).metadata().configuration


def test_columns_of_headers_are_to_be_filled_and_those_of_the_feed_are_not(old: Store) -> None:
    """A sequence comes when its hour runs; what a header says may be filled before."""
    take_over_tables(old, LATER)
    fields = {f.name: f.metadata.get("dicom_assets.filled") for f in delta(old).schema().fields}
    assert (fields["patientsex"], fields["study_timestamp"]) == ("false", "false")
    assert (fields["sequence"], fields["received_timestamp"], fields["patientid"]) == (None,) * 3


# --- going back -----------------------------------------------------------------------------------


@GENERATIONS
def test_a_restore_gives_the_template_its_table_back(tmp_path: Path, generation: int) -> None:
    """Columns, rows and properties are what they were; and it can be taken over once more."""
    template(tmp_path, generation)
    store = store_in(tmp_path)
    before = {name: select(delta(store, name), "SELECT * FROM t") for name in version(store)}
    schemas = {name: delta(store, name).schema().to_json() for name in version(store)}
    told = delta(store).metadata().configuration
    for done in take_over_tables(store, LATER):
        travelled = DeltaTable(done.url, version=done.before)
        assert sorted(map(repr, select(travelled, "SELECT * FROM t"))) == sorted(
            map(repr, before[done.name])
        )
        DeltaTable(done.url).restore(done.before)
    for name, rows in before.items():
        assert sorted(map(repr, select(delta(store, name), "SELECT * FROM t"))) == sorted(
            map(repr, rows)
        )
        assert delta(store, name).schema().to_json() == schemas[name]
    assert delta(store).metadata().configuration == told
    assert [f.is_due for f in inspect_tables(store)] == [True] * 3
    again = take_over_tables(store, datetime.now(UTC) + timedelta(hours=3))
    assert {d.name: d.before for d in again} == {"instance": 4, "series": 5, "study": 5}


def test_taking_over_opens_hours_that_were_followed_before_a_restore(bench: Bench) -> None:
    """Else `sync` would say that all is done, of rows that are the template's again."""
    bench.archive.create(5)
    bench.sync(hours(0))
    (marked,) = contents(bench.store, SYNC, "sealedAt", "instanceAt", "seriesAt", "studyAt")
    assert None not in marked
    root = Path(bench.store.urls["instance"]).parent
    for name in ("instance", "series", "study"):
        moved = Path(bench.store.urls[name])
        moved.rename(root / f"{name}-elsewhere")
    Template(root).take([entry("1")], WRITTEN)
    take_over_tables(bench.store, LATER)
    (opened,) = contents(bench.store, SYNC, "sealedAt", "instanceAt", "seriesAt", "studyAt")
    assert opened == (marked[0], None, None, None)


# --- what is refused ------------------------------------------------------------------------------


def test_another_writer_within_two_hours_is_waited_for(old: Store) -> None:
    """The message says who, when and what to do; a minute later it is no longer in the way."""
    before = version(old)
    with pytest.raises(NotYetError) as refused:
        take_over_tables(old, WRITTEN + timedelta(hours=1, minutes=59))
    for said in ("Apache-Spark", "version 1 at 2026-01-01 09:00 UTC", "Stop the trigger"):
        assert said in str(refused.value)
    assert version(old) == before
    assert len(take_over_tables(old, WRITTEN + timedelta(hours=2))) == 3


def test_a_writer_of_any_of_the_tables_is_in_the_way_of_all(tmp_path: Path) -> None:
    """Whoever still counts series is not done with instances."""
    left = template(tmp_path)
    left.tables["study"].commit(left.tables["study"].rows, LATER - timedelta(minutes=5), "OPTIMIZE")
    before = version(store_in(tmp_path))
    with pytest.raises(NotYetError, match="table study"):
        take_over_tables(store_in(tmp_path), LATER)
    assert version(store_in(tmp_path)) == before


def test_a_table_that_is_neither_is_refused(tmp_path: Path) -> None:
    """Somebody else's table at the path, or the template's cut another way."""
    DeltaTable.create(str(tmp_path / "instance"), pa.schema([("a", pa.string())]))
    with pytest.raises(ForeignTableError, match="neither the instance table of Data Factory's"):
        inspect_tables(store_in(tmp_path))


def test_a_table_of_other_partition_columns_is_refused(tmp_path: Path) -> None:
    """All columns are there, and the files lie otherwise."""
    DeltaTable.create(str(tmp_path / "study"), STUDY.arrow())
    with pytest.raises(ForeignTableError, match="partitioned by nothing"):
        inspect_tables(store_in(tmp_path))


def _of_another_type(left: Template) -> None:
    left.tables["instance"].columns["manufacturer"] = "date"


def _of_another_case(left: Template) -> None:
    left.tables["instance"].columns["StationName"] = "string"


@pytest.mark.parametrize("spoil", [_of_another_type, _of_another_case])
@pytest.mark.parametrize("generation", [1, 3])
def test_a_column_in_our_place_has_to_be_moved_first(
    tmp_path: Path, generation: int, spoil: Callable[[Template], None]
) -> None:
    """The column is named, the remedy said, nothing written."""
    left = Template(tmp_path, generation)
    spoil(left)
    name = list(left.tables["instance"].columns)[-1]
    left.take([entry("1")], WRITTEN)
    (obstacle,) = finding(store_in(tmp_path)).obstacles
    assert obstacle.startswith(f"column {name} is not of the type")
    with pytest.raises(ForeignTableError, match=f"cannot be taken over yet: column {name}"):
        take_over_tables(store_in(tmp_path), LATER)
    assert version(store_in(tmp_path)) == {"instance": 0, "series": 0, "study": 0}


@pytest.mark.parametrize("generation", [1, 3])
def test_rows_without_a_whole_key_have_to_go_first(tmp_path: Path, generation: int) -> None:
    """Nothing would ever meet them; the condition is in the words of the table itself."""
    left = template(tmp_path, generation)
    table = left.tables["instance"]
    uid = list(table.columns)[1]
    rows = {k: {**r, uid: None} if n else r for n, (k, r) in enumerate(table.rows.items())}
    table.commit(rows, WRITTEN)
    (obstacle,) = finding(store_in(tmp_path)).obstacles
    assert obstacle.startswith("1 rows lack a part of their key")
    DeltaTable(str(table.path)).delete(obstacle.partition("WHERE ")[2])
    assert finding(store_in(tmp_path)).obstacles == ()


def test_a_table_with_more_than_plain_delta_has_to_be_made_plain_first(tmp_path: Path) -> None:
    """Deletion vectors: readers of version 1 would show deleted rows."""
    left = template(tmp_path)
    log = left.tables["instance"].path / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            features = {
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors"],
            }
            line["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, **features}
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (obstacle,) = finding(store_in(tmp_path)).obstacles
    assert "deletion vectors" in obstacle


# --- what comes between ---------------------------------------------------------------------------

# Each commit of each kind of table; `study` goes the way of `series`.
_STEPS: Final = [
    *((generation, "instance", "_set_properties") for generation in (1, 3)),
    (1, "instance", "_rewrite"),
    (3, "instance", "_add_columns"),
    *((3, "series", step) for step in ("_set_properties", "_add_columns", "_remove_faults")),
]
Between = Callable[[str, str, Callable[[Callable[[], object]], object]], None]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """What happens around a step of one table, instead of the step alone."""

    def around(step: str, table: str, happens: Callable[[Callable[[], object]], object]) -> None:
        act = getattr(migration, step)

        def stepped(*given: Any) -> object:  # noqa: ANN401 - whatever the step takes
            name = given[1].name if step == "_remove_faults" else given[0].layout.table.name
            return happens(lambda: act(*given)) if name == table else act(*given)

        monkeypatch.setattr(migration, step, stepped)

    return around


@pytest.mark.parametrize(("generation", "table", "step"), _STEPS)
@pytest.mark.parametrize("is_done", [False, True])
def test_whoever_is_killed_anywhere_finishes_by_running_again(
    tmp_path: Path, between: Between, generation: int, table: str, step: str, *, is_done: bool
) -> None:
    """Before or after each commit of each table; the version to go back to is the first one."""
    template(tmp_path, generation)
    store, deaths = store_in(tmp_path), [Killed()]

    def dies_once(act: Callable[[], object]) -> object:
        if deaths and not is_done:
            raise deaths.pop()
        found = act()
        if deaths:
            raise deaths.pop()
        return found

    between(step, table, dies_once)
    with pytest.raises(Killed):
        take_over_tables(store, LATER)
    assert len(select(delta(store), "SELECT * FROM t")) == 2
    take_over_tables(store, LATER)
    assert [(f.is_due, f.before) for f in inspect_tables(store)] == [(False, 1)] * 3
    assert contents(store, STUDY, "studyInstanceUid") == [("1.1",)]
    assert len(store.open(INSTANCE).rows()) == 2


@pytest.mark.parametrize(
    ("generation", "table", "step"), [step for step in _STEPS if step[2] != "_remove_faults"]
)
def test_a_commit_of_somebody_else_in_between_is_never_written_over(
    tmp_path: Path, between: Between, generation: int, table: str, step: str
) -> None:
    """Whichever step it comes before: the step is not done, and what was committed stays."""
    left = template(tmp_path, generation)
    store = store_in(tmp_path)

    def overtaken(act: Callable[[], object]) -> object:
        _append(left, table)
        return act()

    between(step, table, overtaken)
    with pytest.raises(ConflictError):
        take_over_tables(store, LATER)
    assert _appended(store, table) == 1


def test_stale_rows_are_looked_for_again_when_the_table_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that came meanwhile may be one of those that were to go."""
    left = template(tmp_path)
    store, look, looks = store_in(tmp_path), migration._faults, count()

    def overtaken(readers: Mapping[str, TableReader], name: str) -> object:
        found = look(readers, name)
        if name == "series" and next(looks) == 1:
            _append(left, "series")
        return found

    monkeypatch.setattr(migration, "_faults", overtaken)
    with pytest.raises(ConflictError):
        take_over_tables(store, LATER)
    assert _appended(store, "series") == 1
    assert finding(store, "series").stale == 1


def _appended(store: Store, table: str) -> int:
    rows = select(delta(store, table), "SELECT modality FROM t")
    return [row["modality"] for row in rows].count("THEIRS")


def _append(left: Template, table: str) -> None:
    """Somebody adds a row to one of the template's tables, of an instance that lives."""
    theirs = left.tables[table]
    name = "sopInstanceUid" if left.generation < 3 else "sopinstanceuid"
    alive = next(row for key, row in theirs.rows.items() if key[1] == "1.1")
    types: dict[str, pa.DataType] = {n: TYPES[kind] for n, kind in theirs.columns.items()}
    row = alive | ({name: "1.9"} if table == "instance" else {}) | {"modality": "THEIRS"}
    rows = pa.Table.from_pylist([row], pa.schema(types))
    write_deltalake(str(theirs.path), rows, mode="append", schema_mode="merge")


def test_a_table_that_moved_after_it_was_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted, and the version to go back to, are no longer true."""
    left = template(tmp_path)
    store = store_in(tmp_path)
    monkeypatch.setattr(migration, "_open_hours_again", lambda *_: _append(left, "instance"))
    with pytest.raises(ConflictError, match="was changed while it was read"):
        take_over_tables(store, LATER)
    assert version(store) == {"instance": 2, "series": 1, "study": 1}


# --- headers as a map -----------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_form", [True, False])
def test_a_map_that_was_filled_is_filled_on_unless_a_setting_says_otherwise(
    bench: Bench, keeps_form: bool
) -> None:
    """In rows that the template knew, and in new ones; the text is filled in any case."""
    root = Path(bench.store.urls["instance"]).parent
    Template(root).take([entry("1"), entry("9")], WRITTEN)
    take_over_tables(bench.store, LATER)
    header = {"00100020": {"vr": "LO", "Value": ["P", None]}, "00080060": {"vr": "CS"}}
    for sop in ("1", "2"):
        bench.archive.create(5, of=key(sop), metadata_string=json.dumps(header))
    bench.change(hours(0))
    migrated = migration_run(bench, keeps_form=keeps_form)
    mapped = [
        ("00100020", {"vr": "LO", "Value": ["P", None]}),
        ("00080060", {"vr": "CS", "Value": None}),
    ]
    assert migrated == {
        "1": (json.dumps(header), mapped if keeps_form else None),
        "2": (json.dumps(header), mapped if keeps_form else None),
    }


def migration_run(bench: Bench, *, keeps_form: bool) -> dict[str, tuple[object, object]]:
    """The header of each row with a sequence, as text and as map, after a run."""
    steps.follow_log(bench.store, hours(0), bench.archive, run(), keeps_form=keeps_form)
    rows = bench.store.open(INSTANCE).rows()
    return {
        str(r["sopinstanceuid"]).rpartition(".")[2]: (r["metadata_string"], r["metadata"])
        for r in rows.to_pylist()
        if r["sequence"] is not None
    }


def test_a_table_of_ours_gets_no_map(bench: Bench) -> None:
    """No property, no map."""
    bench.archive.create(5, metadata_string="{}")
    bench.change(hours(0))
    assert migration_run(bench, keeps_form=True) == {"1": ("{}", None)}


# --- in step --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("generation", "int96"), crossed((1, 2, 3), (True, False)))
def test_a_table_that_was_taken_over_is_kept_in_step(
    bench: Bench, generation: int, int96: bool
) -> None:
    """A row of the template is read anew, a ghost of it goes, what it lost comes."""
    root = Path(bench.store.urls["instance"]).parent
    left = Template(root, generation, int96=int96)
    left.take([entry("1"), entry("2"), entry("3", "2")], WRITTEN)
    for minute, sop in ((5, "1"), (6, "2"), (7, "4")):
        bench.archive.create(minute, of=key(sop), patientname=f"A^{sop}")
    bench.archive.create(8, of=key("3", series="2"))
    bench.archive.delete(9, of=key("2"))
    bench.archive.delete(9.5, of=key("3", series="2"))
    take_over_tables(bench.store, LATER)
    bench.sync(hours(0))
    held = contents(bench.store, INSTANCE, "sopinstanceuid", "sequence", "patientname")
    assert held == [("1.1.1.1", 1, "A^1"), ("1.1.1.4", 3, "A^4")]
    assert contents(bench.store, SERIES, "seriesInstanceUid", "instanceCount", "sequence") == [
        ("1.1.1", 2, 3)
    ]
    assert contents(bench.store, STUDY, "instanceCount", "seriesCount") == [(2, 1)]
    before = version(bench.store)
    bench.sync(hours(0))
    assert version(bench.store) == before
    assert [f.is_due for f in inspect_tables(bench.store)] == [False] * 3


def test_a_row_of_ours_is_never_stale(bench: Bench) -> None:
    """Between two steps of a run `series` may show what `instance` no longer has."""
    bench.archive.create(5)
    bench.sync(hours(0))
    bench.archive.delete(6)
    bench.change(hours(0))
    bench.instance(hours(0))
    assert bench.store.open(INSTANCE).count() == 0
    assert [(f.stale, f.is_due, f.before) for f in inspect_tables(bench.store)] == [
        (0, False, None)
    ] * 3
