"""The template's tables held against ours: each cause, by table, day and column."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from deltalake import DeltaTable

from dicom_assets.commands.migrate import comparison
from dicom_assets.commands.migrate.comparison import Comparison, compare_tables
from dicom_assets.errors import NotYetError
from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, at, hours, key
from dicom_assets_tests.support.template import Template

DAY: Final = date(2026, 1, 1)
WRITTEN: Final = datetime(2026, 1, 1, 9, 16, tzinfo=UTC)
# The template has read up to nine o'clock: what happened in a later minute, it cannot know.
UNSEEN: Final = 9 * 60 + 5
LAST_HOUR: Final = 10


def entry(sop: str = "1", minutes: float = 5, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """An entry as the service serves it to the template; its header is `metadata`."""
    partition, study, series, uid = key(sop, **more.pop("of", {}))
    moment = at(minutes).isoformat(timespec="milliseconds")
    return {
        "partitionName": partition,
        "studyInstanceUid": study,
        "seriesInstanceUid": series,
        "sopInstanceUid": uid,
        "action": "Create",
        "timestamp": moment,
        "metadata": {},
        "filePath": "p",
    } | more


def text(tag: str, vr: str, *values: object) -> dict[str, Any]:
    """A header of one attribute."""
    return {tag: {"vr": vr, "Value": list(values)}}


@pytest.fixture
def old(tmp_path: Path) -> Template:
    """The template's tables, which do not exist yet."""
    return Template(tmp_path / "old")


def gone(sop: str = "1", **of: str) -> dict[str, Any]:
    """The entry of a deleted instance, which shows neither header nor path."""
    kept = entry(sop, of=of, action="Delete")
    return {name: value for name, value in kept.items() if name not in {"metadata", "filePath"}}


def fill(old: Template, *entries: dict[str, Any]) -> Template:
    """The template has read the entries, in one page."""
    old.take(list(entries), WRITTEN)
    return old


def new(bench: Bench, *sops: str, minutes: float = 5) -> None:
    """Our service has the instances, as the template's entries show them."""
    for sop in sops:
        bench.archive.create(minutes, of=key(sop), filepath="p")


def held(old: Template, bench: Bench, **more: Any) -> Comparison:  # noqa: ANN401 - its own arguments
    """Our tables have followed all hours but the last, and are compared."""
    bench.sync(hours(0, LAST_HOUR))
    return compare_tables(store_in(old.root), bench.store, **more)


def causes(found: Comparison, table: str = "instance") -> dict[str, int]:
    """The causes of one table's differences; all lie on the same day."""
    assert {day for name, day, _ in found.counts if name == table} <= {DAY}
    return {cause: n for (name, _, cause), n in found.counts.items() if name == table}


def test_equal_tables_have_no_difference(old: Template, bench: Bench) -> None:
    """Not in one column of one row; the template has read up to the hour before its commit."""
    new(bench, "1", "2")
    found = held(fill(old, entry("1"), entry("2")), bench)
    assert (found.counts, found.columns, found.is_explained) == ({}, {}, True)
    assert found.rows == {"instance": (2, 2), "series": (1, 1), "study": (1, 1)}
    assert found.until == at(9 * 60)


@pytest.mark.parametrize(
    ("minutes", "cause"), [(6, "lost by the template"), (UNSEEN, "changed later")]
)
def test_a_row_that_only_we_have(old: Template, bench: Bench, minutes: float, cause: str) -> None:
    """Lost, unless it came after the template had read last."""
    new(bench, "1")
    new(bench, "2", minutes=minutes)
    found = held(fill(old, entry("1")), bench)
    assert causes(found) == {cause: 1}
    assert causes(found, "series") == causes(found, "study") == {"follows its instances": 1}
    assert found.is_explained


def test_a_row_that_was_lost_and_updated_later_was_lost(old: Template, bench: Bench) -> None:
    """It could have been read when it came."""
    new(bench, "1", "2")
    bench.archive.update(UNSEEN, of=key("2"), filepath="p")
    assert causes(held(fill(old, entry("1")), bench)) == {"lost by the template": 1}


@pytest.mark.parametrize(
    ("minutes", "cause"), [(6, "ghost of the template"), (UNSEEN, "changed later")]
)
def test_a_row_that_is_deleted(old: Template, bench: Bench, minutes: float, cause: str) -> None:
    """A ghost, unless it was deleted after the template had read last."""
    new(bench, "1", "2")
    bench.archive.delete(minutes, of=key("2"))
    found = held(fill(old, entry("1"), entry("2")), bench)
    assert causes(found) == {cause: 1}
    assert found.is_explained


def test_a_row_that_expired_is_a_ghost(old: Template, bench: Bench) -> None:
    """No entry tells it, so the template never learns of it."""
    new(bench, "1", "2")
    bench.archive.expire(of=key("2"))
    assert causes(held(fill(old, entry("1"), entry("2")), bench)) == {"ghost of the template": 1}


@pytest.mark.parametrize(
    ("minutes", "cause", "is_explained"),
    [(6, "ghost of the template", True), (LAST_HOUR * 60 + 1, "hour not read here", False)],
)
def test_a_row_that_our_log_never_had(
    old: Template, bench: Bench, minutes: float, cause: str, is_explained: bool
) -> None:
    """Never in the feed, if its hour has run here."""
    new(bench, "1")
    found = held(fill(old, entry("1"), entry("2", minutes)), bench)
    assert causes(found) == {cause: 1}
    assert found.is_explained == is_explained


@pytest.mark.parametrize(
    ("minutes", "cause"), [(6, "update lost by the template"), (UNSEEN, "changed later")]
)
def test_a_row_that_is_newer_here(old: Template, bench: Bench, minutes: float, cause: str) -> None:
    """An update that the template lost, or could not know."""
    new(bench, "1")
    bench.archive.update(minutes, patientid="P")
    found = held(fill(old, entry("1")), bench)
    assert causes(found) == {cause: 1}
    assert found.columns == {}


def test_a_row_that_is_older_here_has_no_reason(old: Template, bench: Bench) -> None:
    """The hour has run, and its change is not here."""
    new(bench, "1")
    found = held(fill(old, entry("1", 30)), bench)
    assert (causes(found), found.is_explained) == ({"missing here": 1}, False)


def test_a_row_that_our_log_makes_live_and_the_table_lacks_has_no_reason(
    old: Template, bench: Bench
) -> None:
    """Somebody took it out of the table."""
    new(bench, "1", "2")
    bench.sync(hours(0, LAST_HOUR))
    DeltaTable(bench.store.urls["instance"]).delete(f"sopinstanceuid = '{key('2')[-1]}'")
    found = compare_tables(store_in(fill(old, entry("1"), entry("2")).root), bench.store)
    assert (causes(found), found.is_explained) == ({"missing here": 1}, False)


def test_a_row_that_was_rejected_here(old: Template, bench: Bench) -> None:
    """Its header could not be used; `rejected` says more."""
    new(bench, "1", "2")
    bench.archive.unreadable[2] = "header is not JSON"
    found = held(fill(old, entry("1"), entry("2")), bench)
    assert (causes(found), found.is_explained) == ({"rejected here": 1}, True)


def test_a_data_partition_that_is_left_out_here(old: Template, bench: Bench) -> None:
    """Neither lost nor a ghost."""
    new(bench, "1")
    other = entry("2", of={"partition": "other"})
    found = held(fill(old, entry("1"), other), bench, partitions=["Microsoft.Default"])
    assert causes(found) == {"data partition not kept here": 1}
    assert causes(found, "study") == {"follows its instances": 1}


LO, MODEL, PN = "00100020", "00081090", "00100010"
FORMS: Final = {
    ("patientid", "padding"): (text(LO, "LO", "P1 "), "P1"),
    ("patientid", " padding"): (text(LO, "LO", " "), None),
    ("manufacturermodelname", "first value only"): (text(MODEL, "LO", "A "), "A\\B"),
    ("patientname", "name not found"): (text(PN, "PN", {"Ideographic": "x"}), "A^B"),
    ("referringphysicianname", "name not found"): ({}, "A^B"),
    ("patientname", "name cut at a quote"): (text(PN, "PN", {"Alphabetic": 'A "B'}), 'A "B'),
    ("studydate_formatted", "date not read"): ({}, date(2024, 1, 2)),
    ("patientname", "padding"): (text(PN, "PN", {"Alphabetic": "A^B^^"}), "A^B"),
    ("patientid", "differs"): (text(LO, "LO", "P1"), "P2"),
    ("patientid", " differs"): (text(LO, "LO", "P1"), None),
    ("patientid", "differs "): ({}, "P1"),
}


@pytest.mark.parametrize(("column", "form"), FORMS)
def test_the_same_change_with_other_values(
    old: Template, bench: Bench, column: str, form: str
) -> None:
    """The column is named, and how the template wrote it otherwise; never a value."""
    header, ours = FORMS[column, form]
    bench.archive.create(5, filepath="p", **{column: ours})  # type: ignore[arg-type]  # a value
    found = held(fill(old, entry(metadata=header)), bench)
    cause = "differs" if form.strip() == "differs" else "written otherwise by the template"
    assert causes(found) == {cause: 1}
    assert found.columns["instance", column, form.strip()] == 1
    assert sum(n for (table, _, _), n in found.columns.items() if table == "instance") == 1
    assert found.is_explained


def test_a_day_that_is_too_early_for_spark_is_the_same_change(old: Template, bench: Bench) -> None:
    """The template keeps it. The text is equal."""
    bench.archive.create(5, filepath="p", studydate="00010101")
    found = held(fill(old, entry(metadata=text("00080020", "DA", "00010101"))), bench)
    assert causes(found) == {"written otherwise by the template": 1}
    assert found.columns["instance", "studydate_formatted", "date too early"] == 1


def test_a_time_that_the_template_cut_or_could_not_read_is_the_same_change(
    old: Template, bench: Bench
) -> None:
    """Milliseconds; and null where the feed wrote fewer than three digits."""
    for sop, microseconds in (("1", 999), ("2", 0)):
        bench.archive.create(5 + microseconds / 60e6, of=key(sop), filepath="p")
    short = entry("2", timestamp="2026-01-01T00:05:00.1+00:00")
    found = held(fill(old, entry("1"), short), bench)
    assert causes(found) == {}


@pytest.mark.parametrize("generation", [1, 2, 3])
def test_only_columns_that_a_generation_has_are_compared(
    tmp_path: Path, bench: Bench, generation: int
) -> None:
    """What it could not know is no difference."""
    bench.archive.create(5, filepath="p", manufacturer="M", accessionnumber="A1", studydate="2")
    found = held(fill(Template(tmp_path / "old", generation), entry()), bench)
    differ = [("instance", name, "differs") for name in ("accessionnumber", "studydate")]
    assert set(found.columns) == set(differ if generation == 3 else ())


# --- series and studies ---------------------------------------------------------------------------


def test_what_the_template_never_takes_out_is_a_ghost(old: Template, bench: Bench) -> None:
    """The series and study of a deleted instance; with no difference among instances."""
    new(bench, "1", "2")
    bench.archive.create(6, of=key("3", "3"), filepath="p")
    bench.archive.delete(7, of=key("3", "3"))
    fill(old, entry("1"), entry("2"), entry("3", of={"study": "3"}))
    found = held(fill(old, gone("3", study="3")), bench)
    assert causes(found) == {}
    assert causes(found, "series") == causes(found, "study") == {"ghost of the template": 1}


def test_counts_of_the_template_that_hold_stale_series(old: Template, bench: Bench) -> None:
    """A study is counted over its series, the emptied ones among them."""
    new(bench, "1")
    bench.archive.create(6, of=key("2", series="2"), filepath="p")
    bench.archive.delete(7, of=key("2", series="2"))
    fill(old, entry("1"), entry("2", of={"series": "2"}))
    found = held(fill(old, gone("2", series="2")), bench)
    assert causes(found, "series") == {"ghost of the template": 1}
    assert causes(found, "study") == {"counted otherwise by the template": 1}
    assert found.columns == {
        ("study", "instanceCount", "differs"): 1,
        ("study", "seriesCount", "differs"): 1,
    }


def test_a_series_that_only_we_have_though_its_instances_agree_was_lost(
    old: Template, bench: Bench
) -> None:
    """The template's third commit did not come about."""
    new(bench, "1")
    fill(old, entry("1"))
    old.tables["series"].commit({}, WRITTEN)
    found = held(old, bench)
    assert causes(found, "series") == {"lost by the template": 1}


@pytest.mark.parametrize("is_there", [True, False])
def test_a_row_of_ours_that_does_not_show_its_instances_has_no_reason(
    old: Template, bench: Bench, is_there: bool
) -> None:
    """It is not there, or counts otherwise than our own rows of `instance`."""
    new(bench, "1")
    bench.sync(hours(0, LAST_HOUR))
    series = DeltaTable(bench.store.urls["series"])
    if is_there:
        series.update({"instanceCount": "5"})
    else:
        series.delete()
    found = compare_tables(store_in(fill(old, entry("1")).root), bench.store)
    assert causes(found, "series") == {"missing here": 1}
    assert not found.is_explained


# --- as a whole -----------------------------------------------------------------------------------


def _busy(old: Template, bench: Bench) -> Store:
    new(bench, "1", "2", "3", "4")
    for study in "5678":
        bench.archive.create(6, of=key(study, study), filepath="p")
    bench.archive.delete(7, of=key("2"))
    bench.archive.delete(8, of=key("7", "7"))
    bench.sync(hours(0, LAST_HOUR))
    fill(old, entry("1"), entry("2"), *(entry(s, 6, of={"study": s}) for s in "678"))
    return store_in(old.root)


def test_studies_are_compared_part_by_part(
    old: Template, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same result, whatever the size of a part."""
    root = _busy(old, bench)
    whole = compare_tables(root, bench.store)
    assert causes(whole) == {"lost by the template": 3, "ghost of the template": 2}
    monkeypatch.setattr(comparison, "COMPARED_ROWS", 1)
    assert compare_tables(root, bench.store) == whole


def test_keys_are_told_to_who_asks(old: Template, bench: Bench) -> None:
    """As many as were counted, each under the names of `instance`."""
    told: list[tuple[str, dict[str, Any]]] = []
    found = compare_tables(
        _busy(old, bench),
        bench.store,
        tell=lambda table, rows: told.extend((table, row) for row in rows.to_pylist()),
    )
    assert len(told) == found.counts.total()
    row = next(r for table, r in told if table == "instance" and r["studyinstanceuid"] == "1.5")
    assert row == dict(zip(INSTANCE.key, key("5", "5"), strict=True)) | {
        "day": DAY,
        "cause": "lost by the template",
        "columns": None,
    }


def test_up_to_when_the_template_has_read_can_be_said(old: Template, bench: Bench) -> None:
    """What came later is not lost."""
    new(bench, "1")
    new(bench, "2", minutes=20)
    found = held(fill(old, entry("1")), bench, until=at(10))
    assert (found.until, causes(found)) == (at(10), {"changed later": 1})


def test_an_hour_is_read_a_quarter_of_an_hour_after_its_end(old: Template, bench: Bench) -> None:
    """A commit at ten past is of the window before."""
    new(bench, "1")
    old.take([entry("1")], WRITTEN - timedelta(minutes=6))
    assert held(old, bench).until == at(8 * 60)


def test_what_has_to_be_there_is_said(old: Template, bench: Bench) -> None:
    """The template's tables, and ours with a log; nothing is changed by asking."""
    with pytest.raises(NotYetError, match="no instance table at"):
        compare_tables(store_in(old.root), bench.store)
    fill(old, entry("1"))
    with pytest.raises(NotYetError, match="own one is looked for"):
        compare_tables(store_in(old.root), bench.store)
    with pytest.raises(NotYetError, match="no change log"):
        compare_tables(store_in(old.root), store_in(old.root))


def test_nothing_is_written_by_comparing(old: Template, bench: Bench) -> None:
    """On neither side."""
    root = _busy(old, bench)
    before = [(s.urls[n], s.version(t)) for s in (root, bench.store) for n, t in s.tables.items()]
    compare_tables(root, bench.store)
    assert before == [
        (s.urls[n], s.version(t)) for s in (root, bench.store) for n, t in s.tables.items()
    ]


def test_a_day_is_that_of_the_change(old: Template, bench: Bench) -> None:
    """In UTC; a row of the template without a time has none."""
    new(bench, "1", minutes=-1)
    short = entry("2", timestamp="2026-01-01T00:05:00.1+00:00")
    bench.sync(hours(-1, LAST_HOUR))
    found = compare_tables(store_in(fill(old, short).root), bench.store)
    assert set(found.counts) >= {
        ("instance", DAY - timedelta(days=1), "lost by the template"),
        ("instance", None, "hour not read here"),
    }
