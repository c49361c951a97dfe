"""Sizes of the tables: as the storage and the log tell them."""

from pathlib import Path

import pytest

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.questions import growth
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.tables import Bench, hours, key


def test_a_table_that_grows_is_measured(bench: Bench) -> None:
    """Bytes and files of the live version, versions and entries of the log."""
    assert growth.sizes(bench.store) == {}
    for hour in range(3):
        bench.archive.create(60 * hour + 10, of=key(str(hour)))
        bench.sync(hours(hour))
    found = growth.sizes(bench.store)
    assert set(found) == {"change", "instance", "series", "study", "sync", "rejected"}
    live = [Path(uri) for uri in bench.store.delta(INSTANCE).file_uris()]
    size = found["instance"]
    assert (size.files, size.small_files) == (len(live), len(live))
    assert size.bytes == sum(path.stat().st_size for path in live)
    assert (size.log_entries, size.unchecked) == (4, 4)


def test_a_checkpoint_counts_from_its_version(bench: Bench) -> None:
    """What lies before it need not be read."""
    bench.archive.create(10)
    bench.sync(hours(0))
    bench.store.delta(INSTANCE).create_checkpoint()
    assert growth.sizes(bench.store)["instance"].unchecked == 0
    bench.archive.create(20, of=key("2"))
    bench.sync(hours(0))
    assert growth.sizes(bench.store)["instance"].unchecked == 1


def test_a_file_of_some_size_is_not_small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is in bytes."""
    bench.archive.create(10)
    bench.sync(hours(0))
    monkeypatch.setattr(growth, "SMALL_BYTES", growth.sizes(bench.store)["instance"].bytes)
    assert growth.sizes(bench.store)["instance"].small_files == 0


def test_room_is_told_of_a_local_disk_only(bench: Bench, tmp_path: Path) -> None:
    """Also of a folder that is not there yet; a container has no end that could be asked."""
    assert (growth.free_bytes(bench.store) or 0) > 0
    assert growth.room(tmp_path / "not" / "yet") == growth.room(tmp_path)
    remote = steps.store_of({"instance": "abfss://c@a.dfs.core.windows.net/instance"})
    assert growth.free_bytes(remote) is None
