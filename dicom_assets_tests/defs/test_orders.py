"""Whatever the order of the hours, however often, one by one or at once: the same tables."""

from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.schema import SERIES, STUDY
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, alive
from dicom_assets_tests.support.samples import SOAK
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

SHUFFLED = [KEYS[i] for i in (5, 0, 3, 2, 4, 1)]


@pytest.mark.parametrize("keys", [SHUFFLED, list(KEYS)][: None if SOAK else 1])
def test_hours_one_by_one_equal_the_range(
    keys: list[str],
    filled: World,
    service: Service,
    tmp_path: Path,
    instance: dg.DagsterInstance,
) -> None:
    """Six runs of an hour each, in any order, leave what one run over the range leaves."""
    one_by_one = world(service, tmp_path)
    for key in keys:
        one_by_one.run(key, instance=instance)
    assert one_by_one.contents() == filled.contents()


def test_the_range_shows_the_archive(filled: World, service: Service) -> None:
    """The live instances are in `instance`, and their groups in series and study."""
    live = alive(service.archive)
    assert filled.alive() == live
    assert {row["seriesInstanceUid"] for row in filled.rows(SERIES)} == {row[2] for row in live}
    counts = {row["studyInstanceUid"]: row["instanceCount"] for row in filled.rows(STUDY)}
    assert counts == {study: sum(row[1] == study for row in live) for _, study, *_ in live}


def test_a_repeat_writes_nothing_and_reads_no_header(
    service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """A range run again, then an hour of it: no table has a new version, no blob was read."""
    again = world(service, tmp_path)
    again.run(FIRST, LAST, instance=instance)
    before, headers = again.versions(), service.header_requests()
    assert headers > 0
    again.run(FIRST, LAST, instance=instance)
    again.run(KEYS[3], instance=instance)
    assert again.versions() == before
    assert service.header_requests() == headers
