"""Dagster's knowledge of our hours: materialized, in flight, or failed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from dicom_assets.defs.partitions import hour_key
from dicom_assets.defs.pool import OWNER_TAG, is_dead
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

    def unmaterialized(self, asset: dg.AssetKey, hours: Sequence[datetime]) -> set[datetime]:
        """Return those hours that an asset has no materialization of, or failed at last."""
        keys = {hour_key(hour): hour for hour in hours}
        status = self.instance.get_status_by_partition(asset, list(keys), self.partitions) or {}
        return {
            hour
            for key, hour in keys.items()
            if status.get(key) is not AssetPartitionStatus.MATERIALIZED
        }

    def is_running(self, job: str) -> bool:
        """Return True if a run of a job is queued or started."""
        unfinished = dg.RunsFilter(job_name=job, statuses=UNFINISHED)
        return bool(self.instance.get_runs(unfinished, limit=1))

    def in_flight(self) -> list[Span]:
        """Return the hours of unfinished runs, and of backfills whose runs are to come."""
        runs = self.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
        alive = (r for r in runs if not is_dead(r.tags.get(OWNER_TAG, ""), r.run_id))
        return [*self._hours(alive), *self._backfills()]

    def failures(self, now: datetime) -> list[Failure]:
        """Return the recent failed runs whose hours no later run has loaded."""
        statuses = [*_FAILED, dg.DagsterRunStatus.SUCCESS]
        recent = dg.RunsFilter(statuses=statuses, updated_after=now - REMEMBERED)
        loaded: list[Span] = []
        failed: list[Failure] = []
        for record in self.instance.get_run_records(recent):
            for hours in self._hours([record.dagster_run]):
                if record.dagster_run.status not in _FAILED:
                    loaded.append(hours)
                elif not any(s.first <= hours.first and hours.last <= s.last for s in loaded):
                    failed.append(_failure(hours, record))
        return failed

    def _hours(self, runs: Iterable[dg.DagsterRun]) -> Iterator[Span]:
        """Yield the hours of those runs that are for assets of ours."""
        for run in runs:
            ours = run.job_name == self.job or set(self.keys) & (run.asset_selection or set())
            hours = tagged_hours(run.tags) if ours else None
            if hours is not None:
                yield hours

    def _backfills(self) -> Iterator[Span]:
        """Yield the hours of requested backfills, until their runs are over."""
        requested = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        for backfill in self.instance.get_backfills(requested):
            data = backfill.asset_backfill_data
            targets = {} if data is None else data.target_subset.partitions_subsets_by_asset_key
            for key in set(self.keys) & targets.keys():
                for keys in targets[key].get_partition_key_ranges(self.partitions):
                    yield from filter(None, [tagged_hours(range_tags(keys.start, keys.end))])


def _failure(hours: Span, record: dg.RunRecord) -> Failure:
    ended = record.end_time or record.update_timestamp.timestamp()
    attempt = max(1, attempt_of(record.dagster_run.tags))
    selection = record.dagster_run.asset_selection
    tables = frozenset(key.path[-1] for key in selection) if selection else None
    return Failure(hours, attempt, datetime.fromtimestamp(ended, UTC), tables)
