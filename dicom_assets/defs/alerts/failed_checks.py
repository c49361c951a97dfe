"""Problems: checks of ours that failed, also in a run that stayed green."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES as COMPLETED,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dicom_assets.defs.alerts.ledger import Problem
from dicom_assets.defs.check_words import BY_REASON, READER_KEY, SILENCING_KEYS, ReaderRole


def check_problems(
    instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec]
) -> Iterator[Problem]:
    """Yield a problem for each check whose latest result is a failure that needs a person."""
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
    for spec in specs:
        record = latest.get(spec.key)
        if record is not None and record.status not in COMPLETED:
            # A new run of the check is planned or has died: the result before it still holds.
            done = storage.get_asset_check_execution_history(spec.key, limit=1, status=COMPLETED)
            record = done[0] if done else None
        if record is None or record.status is not AssetCheckExecutionRecordStatus.FAILED:
            continue
        metadata = record.evaluation.metadata if record.evaluation else {}
        if any(key in metadata and metadata[key].value is True for key in SILENCING_KEYS):
            continue
        asset, role = spec.asset_key.to_user_string(), spec.metadata.get(READER_KEY)
        description = record.evaluation and record.evaluation.description
        moment = record.event.timestamp if record.event else record.create_timestamp
        problem = Problem(
            key=f"check {asset} {spec.name}",
            reader=ReaderRole(role) if role in tuple(ReaderRole) else ReaderRole.PLATFORM,
            title=f"check {spec.name} of {asset} failed",
            text=description or spec.description or "",
            page=f"runs/{record.run_id}",
            since=datetime.fromtimestamp(moment, UTC),
        )
        counts: Any = metadata[BY_REASON].value if BY_REASON in metadata else {None: None}
        for reason, count in counts.items():
            if reason is None:
                yield problem
            else:
                key, title = f"{problem.key}: {reason}", f"{problem.title}: {reason} ({count})"
                yield replace(problem, key=key, title=title, size=count)
