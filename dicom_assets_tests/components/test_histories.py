"""Random histories with the tables on Azurite, over https, by a managed identity: as on a disk.

What a history is, and what must hold, is in `property.world`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from dicom_assets_tests.property import world
from dicom_assets_tests.property.test_core import EACH
from dicom_assets_tests.property.world import MARKS, SEEN_OUTSIDE, TABLES, Scenario, scenarios
from dicom_assets_tests.support.samples import TIMES

if TYPE_CHECKING:
    from dicom_assets_tests.components.cloud import Cloud
    from dicom_assets_tests.property.expected import Row

EXAMPLES = 15 * TIMES
# When a row was written: the only columns in which two equal histories may differ.
LOADED = {*SEEN_OUTSIDE, *MARKS}

pytestmark = pytest.mark.timeout(1200 * TIMES)  # each runs for seconds


@dataclass(frozen=True)
class Container:
    """A root of tables in a container, written like a path."""

    url: str

    def __truediv__(self, name: str, /) -> str:
        """The address of a table."""
        return f"{self.url}/{name}"


def contents(root: world.Root) -> dict[str, list[Row]]:
    """All rows of all tables, with all columns but the times of loading."""
    found = {name: world.rows(root, name) for name in TABLES}
    kept = {n: [{k: row[k] for k in row if k not in LOADED} for row in found[n]] for n in found}
    return {name: sorted(rows, key=repr) for name, rows in kept.items()}


@settings(EACH, max_examples=EXAMPLES)
@given(scenario=scenarios(moves=False))
def test_an_archive_at_rest_gives_the_same_tables_as_on_a_disk(
    signed_in: Cloud, scenario: Scenario
) -> None:
    """All rows, all columns; and both are what the oracle says."""
    there = Container(signed_in.root())
    world.play(scenario, there)
    with tempfile.TemporaryDirectory() as folder:
        world.play(scenario, here := Path(folder))
        assert contents(there) == contents(here)


@settings(EACH, max_examples=EXAMPLES)
@given(scenario=scenarios(moves=True))
def test_an_archive_that_moved_is_in_the_tables_once_every_hour_has_run_again(
    signed_in: Cloud, scenario: Scenario
) -> None:
    """Operations between any two requests, as in `property`."""
    world.play(scenario, Container(signed_in.root()))
