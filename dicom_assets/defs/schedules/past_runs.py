"""Dagster's knowledge of runs over our hours: in flight, or failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from dicom_assets.defs.pool import is_dead
from dicom_assets.defs.run_tags import UNFINISHED, attempt_of, range_tags, tagged_hours
from dicom_assets.defs.schedules.slices import Failure
from dicom_assets.window import Span

# Longer than the longest rest. Hours that failed earlier and are still missing are requested anew.
REMEMBERED = timedelta(days=3)
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class PastRuns:
    """Runs over the hours of our assets, started by our schedule, a backfill, or a person."""

    instance: dg.DagsterInstance
    job: str
    keys: Sequence[dg.AssetKey]
    partitions: dg.HourlyPartitionsDefinition

    def in_flight(self) -> list[Span]:
        """Return the hours of unfinished runs, and of backfills whose runs are to come."""
        from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

        runs = self.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        flying = list(filter(None, (self._hours(run) for run in runs if not is_dead(run))))
        requested = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        for backfill in self.instance.get_backfills(requested):
            data = backfill.asset_backfill_data
            targets = {} if data is None else data.target_subset.partitions_subsets_by_asset_key
            for key in set(self.keys) & targets.keys():
                ranges = targets[key].get_partition_key_ranges(self.partitions)
                spans = [tagged_hours(range_tags(keys.start, keys.end)) for keys in ranges]
                flying += filter(None, spans)
        return flying

    def failures(self, now: datetime) -> list[Failure]:
        """Return the recent failed runs whose hours no later run has loaded."""
        statuses = [*_FAILED, dg.DagsterRunStatus.SUCCESS]
        recent = dg.RunsFilter(statuses=statuses, updated_after=now - REMEMBERED)
        loaded: list[Span] = []
        failed: list[Failure] = []
        for record in self.instance.get_run_records(recent):
            run, keys = record.dagster_run, record.dagster_run.asset_selection
            hours = self._hours(run)
            if hours is None:
                continue
            if run.status not in _FAILED:
                loaded.append(hours)
            elif not any(s.first <= hours.first and hours.last <= s.last for s in loaded):
                end = record.end_time or record.update_timestamp.timestamp()
                ended, attempt = datetime.fromtimestamp(end, UTC), max(1, attempt_of(run.tags))
                tables = frozenset(key.path[-1] for key in keys) if keys else None
                failed.append(Failure(hours, attempt, ended, tables))
        return failed

    def _hours(self, run: dg.DagsterRun) -> Span | None:
        """Return the hours of a run; None when it is not for assets of ours."""
        ours = run.job_name == self.job or set(self.keys) & (run.asset_selection or set())
        return tagged_hours(run.tags) if ours else None
