"""Problems: checks of ours that failed, also in a run that stayed green."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dicom_assets.defs.alerts.ledger import Problem
from dicom_assets.defs.check_results import last_results
from dicom_assets.defs.check_words import BY_REASON, READER_KEY, SILENCING_KEYS, ReaderRole
from dicom_assets.defs.names import former_check


def check_problems(
    instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec]
) -> Iterator[Problem]:
    """Yield a problem for each check whose latest result is a failure that needs a person."""
    results = last_results(instance, [spec.key for spec in specs])
    for spec in specs:
        record = results.get(spec.key)
        if record is None or record.status is not AssetCheckExecutionRecordStatus.FAILED:
            continue
        metadata = record.evaluation.metadata if record.evaluation else {}
        # False is in results of earlier releases.
        if any(key in metadata and metadata[key].value is not False for key in SILENCING_KEYS):
            continue
        asset, role = spec.asset_key.to_user_string(), spec.metadata.get(READER_KEY)
        description = record.evaluation and record.evaluation.description
        moment = record.event.timestamp if record.event else record.create_timestamp
        problem = Problem(
            # The key never changes, so that no alert is sent twice when a check moves.
            key=f"check {former_check(spec.key).asset_key.to_user_string()} {spec.name}",
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
