"""Checks that moved from the service to the tables' asset: their results and alerts go on."""

from datetime import UTC, datetime
from typing import Final

import dagster as dg
import pytest

from dicom_assets.defs.alerts.failed_checks import check_problems
from dicom_assets.defs.alerts.ledger import Ledger
from dicom_assets.defs.check_results import last_results
from dicom_assets.defs.check_words import ReaderRole

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
PREFIX: Final = ("imaging", "north")
TODAY: Final = dg.AssetKey([*PREFIX, "dicom_quality"])
BEFORE: Final = dg.AssetKey([*PREFIX, "dicom_service"])
SPEC: Final = dg.AssetCheckSpec("orphans", asset=TODAY)
CHANNELS: Final = {reader.value: ["a"] for reader in ReaderRole}


def _note(instance: dg.DagsterInstance, asset: dg.AssetKey, *, passed: bool, **more: str) -> None:
    result = dg.AssetCheckEvaluation(
        asset_key=asset, check_name="orphans", passed=passed, metadata=more
    )
    instance.report_runless_asset_event(result)


def _due(ledger: Ledger, instance: dg.DagsterInstance) -> list[str]:
    """What a look at the check has to tell, and tells."""
    ledger.update(check_problems(instance, [SPEC]), CHANNELS, NOW)
    due = ledger.due("a", NOW)
    told = [("resolved: " if ledger.alerts[key].over else "") + key for key in due]
    ledger.mark_sent({"a": due}, NOW)
    return told


def test_an_open_alert_is_neither_over_nor_sent_again(instance: dg.DagsterInstance) -> None:
    """Until the check has run where it stands today, and from then on by its own results."""
    key = "check imaging/north/dicom_service orphans"
    ledger = Ledger()
    _note(instance, BEFORE, passed=False)
    assert _due(ledger, instance) == [key]
    ledger = Ledger.read(ledger.dump())
    assert _due(ledger, instance) == []
    _note(instance, TODAY, passed=False)
    assert _due(ledger, instance) == []
    _note(instance, TODAY, passed=True)
    assert _due(ledger, instance) == [f"resolved: {key}"]
    assert _due(ledger, instance) == []


def test_the_newest_result_counts_whatever_its_key(instance: dg.DagsterInstance) -> None:
    """Somebody has gone back to a release before, and come again."""
    for asset, passed in ((BEFORE, False), (TODAY, True), (BEFORE, False)):
        _note(instance, asset, passed=passed)
        evaluation = last_results(instance, [SPEC.key])[SPEC.key].evaluation
        assert evaluation is not None
        assert evaluation.passed == passed


@pytest.mark.parametrize("words", [True, "yes"])
def test_a_silent_failure_is_silent_in_the_words_of_each_release(
    instance: dg.DagsterInstance, words: str
) -> None:
    """True before, a word today; False, as before, is no reason."""
    _note(instance, TODAY, passed=False, first_load=words)
    assert list(check_problems(instance, [SPEC])) == []
    _note(instance, TODAY, passed=False, first_load=False)  # type: ignore[arg-type]  # as 0.2 did
    assert len(list(check_problems(instance, [SPEC]))) == 1


def test_a_check_that_has_not_run_has_no_result(instance: dg.DagsterInstance) -> None:
    """Under neither key."""
    assert last_results(instance, [SPEC.key]) == {}
