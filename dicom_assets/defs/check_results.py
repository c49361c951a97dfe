"""The latest result of a check, also one that it had when it stood on another asset."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from dicom_assets.defs.names import former_check


def last_results(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, AssetCheckExecutionRecord]:
    """Return the latest completed execution of each check that has one.

    A run of a check that is planned or has died does not count: the result before it still holds.
    """
    storage, names = instance.event_log_storage, {key: {key, former_check(key)} for key in keys}
    latest = dict(storage.get_latest_asset_check_execution_by_key([*set().union(*names.values())]))
    for key, record in list(latest.items()):
        if record.status not in COMPLETED:
            done = storage.get_asset_check_execution_history(key, limit=1, status=COMPLETED)
            del latest[key]
            latest.update(dict.fromkeys([key], *done) if done else {})
    known = {key: [latest[one] for one in both if one in latest] for key, both in names.items()}
    return {key: max(found, key=lambda one: one.id) for key, found in known.items() if found}
