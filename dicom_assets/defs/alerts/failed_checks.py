"""Asset checks of ours whose latest result needs a person; a run stays green with a failed one."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from dicom_assets.defs.alerts.ledger import Problem
from dicom_assets.defs.check_words import READER_KEY, SILENCING_KEYS, ReaderRole


def failed_checks(
    instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec]
) -> Iterator[Problem]:
    """Yield a problem for each check whose latest result is a failure that needs a person."""
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
    for spec in specs:
        record = latest.get(spec.key)
        if record is not None and record.status not in COMPLETED:
            # It is asked for anew, or its run has died: what it said before still holds.
            done = storage.get_asset_check_execution_history(spec.key, limit=1, status=COMPLETED)
            record = done[0] if done else None
        if record is not None and _needs_somebody(record):
            yield _problem(spec, record)


def _needs_somebody(record: AssetCheckExecutionRecord) -> bool:
    told = record.evaluation.metadata if record.evaluation else {}
    silent = any(name in told and told[name].value is True for name in SILENCING_KEYS)
    return record.status is AssetCheckExecutionRecordStatus.FAILED and not silent


def _problem(spec: dg.AssetCheckSpec, record: AssetCheckExecutionRecord) -> Problem:
    said = record.evaluation and record.evaluation.description
    asset = spec.asset_key.to_user_string()
    moment = record.event.timestamp if record.event else record.create_timestamp
    return Problem(
        key=f"check {asset} {spec.name}",
        reader=_reader(spec),
        title=f"check {spec.name} of {asset} failed",
        text=said or spec.description or "",
        page=f"runs/{record.run_id}",
        since=datetime.fromtimestamp(moment, UTC),
    )


def _reader(spec: dg.AssetCheckSpec) -> ReaderRole:
    named = spec.metadata.get(READER_KEY)
    return ReaderRole(named) if named in set(ReaderRole) else ReaderRole.PLATFORM
