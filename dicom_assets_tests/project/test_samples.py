"""What `make test` leaves out of a product of cases, `make soak` looks at."""

import re
from pathlib import Path

import pytest

from dicom_assets_tests.support import samples
from dicom_assets_tests.support.layout import ROOT, TESTS


def test_a_sample_meets_each_case_of_each_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the whole is all of it."""
    axes = ("abcde", range(7), (True, False))
    monkeypatch.setattr(samples, "SOAK", False)
    sample = samples.crossed(*axes)
    assert [set(met) for met in zip(*sample, strict=True)] == [set(axis) for axis in axes]
    monkeypatch.setattr(samples, "SOAK", True)
    assert set(sample) < set(samples.crossed(*axes))
    assert len(samples.crossed(*axes)) == 5 * 7 * 2


def test_every_file_with_a_sample_runs_in_the_soak() -> None:
    """By its name or by its folder's."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^soak:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    named = {ROOT / word for word in recipe.split() if word.startswith("dicom_assets_tests/")}
    others = {Path(__file__), TESTS / "components" / "test_histories.py"}  # that needs Azurite
    sampling = [
        path
        for path in {*TESTS.rglob("test_*.py")} - others
        if "support.samples import" in path.read_text(encoding="utf-8")
    ]
    assert len(sampling) > 4
    assert [path for path in sampling if named.isdisjoint((path, *path.parents))] == []
