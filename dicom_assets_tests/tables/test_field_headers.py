"""Headers from the field go through a real feed into real tables, and give their right values."""

from collections import Counter

import pytest

from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables import rejected
from dicom_assets.tables.delta.arrow import ints
from dicom_assets_tests.support.field_headers import CASES, Case, Filled, fill

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """All cases have come in one hour."""
    return fill(tmp_path_factory.mktemp("field"), CASES)


def test_every_case_lands(filled: Filled) -> None:
    """Whatever a value is, it costs no row."""
    assert rejected.sequences(filled.store) == []
    rows = filled.store.open(INSTANCE).rows(["sequence"])
    assert sorted(ints(rows["sequence"])) == list(range(1, len(CASES) + 1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_gives_its_right_values(filled: Filled, case: Case) -> None:
    """In `instance` and, derived from there, in `study`."""
    number = CASES.index(case) + 1
    instance, _, study = (filled.row(table, number) for table in (INSTANCE, SERIES, STUDY))
    right = {name: number if name == "sequence" else value for name, value in case.instance.items()}
    assert {name: instance[name] for name in right} == right
    assert {name: study[name] for name in case.study} == case.study


def test_what_does_not_parse_is_counted_by_its_reason(filled: Filled) -> None:
    """And nothing else is."""
    assert filled.unparsable == Counter(reason for case in CASES for reason in case.unparsable)
