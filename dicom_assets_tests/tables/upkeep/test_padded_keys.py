"""Keys that Data Factory's template wrote with padding become keys without, whatever ends a run."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from dicom_assets.commands.migrate import migration, template
from dicom_assets.commands.migrate.migration import take_over_tables
from dicom_assets.schema import INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables import sync
from dicom_assets.tables.delta.files import commit, data_files
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.questions.erasure import traces_of
from dicom_assets.tables.upkeep import padded_keys
from dicom_assets.tables.upkeep.padded_keys import is_due, strip_all
from dicom_assets_tests.support.samples import SOAK
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, contents, hours, key, run, versions
from dicom_assets_tests.support.template import Template

WRITTEN: Final = datetime(2025, 12, 31, 9, tzinfo=UTC)
LATER: Final = WRITTEN + timedelta(hours=3)
NAMES: Final = ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")
STRIPPED_KEYS: Final = {
    "instance": [
        key("1"),
        key("2"),
        key("9", "9"),
        key("1", partition="clean"),
        key("1", partition="other"),
    ],
    "series": [
        key()[:3],
        key("9", "9")[:3],
        key(partition="clean")[:3],
        key(partition="other")[:3],
    ],
    "study": [key()[:2], key("9", "9")[:2], key(partition="clean")[:2], key(partition="other")[:2]],
}


def entry(
    sop: str, *pads: str, second: int = 1, study: str = "1", **more: object
) -> dict[str, Any]:
    """An entry of the feed; `pads` stand after its UIDs of study, series and instance."""
    partition, *uids = key(sop, study)
    padded = (uid + pad for uid, pad in zip(uids, (*pads, "", "", ""), strict=False))
    header = {"00081030": {"vr": "LO", "Value": [f"Abdomen {second}"]}}
    told: dict[str, Any] = {"action": "Create", "filePath": f"https://store/{sop}.dcm"}
    told |= {"timestamp": f"2025-12-31T00:00:{second:02}.1234567+00:00", "metadata": header}
    return {"partitionName": partition, **dict(zip(NAMES, padded, strict=True)), **told, **more}


def taken_over(root: Path, *entries: dict[str, Any]) -> Store:
    """Tables that an earlier release took over: it left the padding in the keys."""
    Template(root).take([*entries], WRITTEN)
    store = store_in(root)
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(migration, "strip_keys", lambda *_: None)
        earlier.setattr(migration, "mark_stripped", lambda *_: None)
        earlier.setattr(template, "bare", lambda expression: expression)
        take_over_tables(store, LATER)
    return store


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """Padding at each level, in two of three data partitions, each with a file of its own."""
    return taken_over(
        tmp_path / "old",
        entry("1", " "),
        entry("2", " ", " ", "\0"),
        entry("9", study="9"),
        entry("1", "\0 ", partitionName="other"),
        entry("1", partitionName="clean"),
    )


def keys(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """The keys of the three tables."""
    return {t.name: contents(store, t, *t.key) for t in (INSTANCE, SERIES, STUDY)}


def test_keys_lose_their_padding_in_all_tables(old: Store) -> None:
    """No other value changes, no other file, and it is done once."""
    columns = ["studydescription", "filepath", "lastModifiedTimestamp", "sequence"]
    before, files = contents(old, INSTANCE, *columns), _files(old)
    assert is_due(old)
    totals = strip_all(old, run())
    assert (totals["rows_removed"], totals["files_written"]) == (0, 2)
    assert keys(old) == STRIPPED_KEYS
    assert contents(old, INSTANCE, *columns) == before
    assert {n for n, path in _files(old).items() if path == files[n]} == {"clean"}
    counted = contents(old, STUDY, "studyInstanceUid", "partitionName", "instanceCount")
    assert counted[1] == ("1.1", "clean", 1)
    assert counted[0] == ("1.1", "Microsoft.Default", 2)
    assert not is_due(old)
    before_again = versions(old)
    assert strip_all(old, run())["files_written"] == 0
    assert {n for n, v in versions(old).items() if v != before_again[n]} == {"instance"}


def _files(store: Store) -> dict[str | None, str]:
    return {f.partition["partitionName"]: f.path for f in data_files(store.open(INSTANCE))}


def test_old_files_with_padding_are_traces_of_the_study(old: Store) -> None:
    """An erasure is not done while one is left."""
    assert traces_of(old, "1.1").tables["study"].rows == 3
    strip_all(old, run())
    traces = traces_of(old, "1.1").tables
    assert (traces["instance"].rows, traces["instance"].old_files) == (4, 2)
    assert traces["study"].rows == 3


def test_a_root_of_ones_own_is_never_due(tmp_path: Path) -> None:
    """Neither before its first hour nor after it."""
    bench = Bench(store_in(tmp_path))
    assert not is_due(bench.store)
    bench.archive.create(1)
    bench.sync(hours(0))
    assert not is_due(bench.store)


def test_of_rows_that_become_one_the_newest_stays(tmp_path: Path) -> None:
    """None has a sequence, so it is the one that was modified last."""
    pads = [(" ",), ("", "", " "), ("\0",), ()]
    entries = [entry("1", *pad, second=s) for s, pad in zip((5, 7, 6, 4), pads, strict=True)]
    store = taken_over(tmp_path, *entries)
    assert strip_all(store, run())["rows_removed"] == 3
    assert contents(store, INSTANCE, *INSTANCE.key, "studydescription") == [(*key(), "Abdomen 7")]
    assert contents(store, STUDY, "studyInstanceUid", "instanceCount") == [("1.1", 1)]


def _with_newer_row(store: Store) -> Bench:
    """A run has read the instance of a padded row: there are two rows of it."""
    bench = Bench(store)
    bench.archive.create(1, of=key("2"), studydescription="new")
    bench.sync(hours(0))
    assert len(contents(store, INSTANCE, "sopinstanceuid")) == 6
    return bench


def test_a_row_with_a_sequence_stays_and_its_study_is_derived_again(old: Store) -> None:
    """By its hour, which is opened before a row is removed."""
    bench = _with_newer_row(old)
    assert strip_all(old, run())["rows_removed"] == 1
    assert contents(old, SYNC, "sealedAt") == [(None,)]
    bench.sync(hours(0))
    assert keys(old) == STRIPPED_KEYS
    rows = contents(old, INSTANCE, "sopinstanceuid", "sequence", "studydescription")
    assert (key("2")[3], 1, "new") in rows
    assert ("1.1", "Microsoft.Default", 2) in contents(
        old, STUDY, "studyInstanceUid", "partitionName", "instanceCount"
    )


class _Killed(BaseException):
    """The end of a process, which nothing catches."""


@pytest.mark.parametrize("is_after", [False, True][: None if SOAK else 1])
def test_a_run_that_is_killed_is_finished_by_the_next(
    old: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_after: bool
) -> None:
    """Before each commit, in `make soak` also after it; each file has a commit of its own."""
    _with_newer_row(old)
    monkeypatch.setattr(padded_keys, "GROUP_ROWS", 1)
    kills = 0
    for number in count():
        root = tmp_path / f"killed-{number}"
        shutil.copytree(tmp_path / "old", root)
        store, steps = store_in(root), count()

        def dying(
            step: Callable[..., Any],
            number: int = number,
            steps: "count[int]" = steps,
        ) -> Callable[..., Any]:
            def taken(*args: Any) -> Any:  # noqa: ANN401 - of any step
                is_last = next(steps) == number
                if is_last and not is_after:
                    raise _Killed
                result = step(*args)
                if is_last:
                    raise _Killed
                return result

            return taken

        with monkeypatch.context() as killing:
            killing.setattr(padded_keys, "commit", dying(commit))
            killing.setattr(sync, "reopen", dying(sync.reopen))
            for name in ("commit", "set_property"):
                killing.setattr(Snapshot, name, dying(getattr(Snapshot, name)))
            try:
                strip_all(store, run())
                break
            except _Killed:
                kills += 1
        if is_due(store):
            strip_all(store, run())
        assert keys(store) == STRIPPED_KEYS
        assert contents(store, SYNC, "sealedAt") == [(None,)]
    # The hour, the row, two files, two derived tables in two commits or more, the property.
    assert kills >= 7
