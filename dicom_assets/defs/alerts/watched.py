"""What is watched of one set of definitions: checks, jobs, schedules, sensors, hours of assets."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from dicom_assets.defs.partitions import key_of
from dicom_assets.window import Span, spans_of


@dataclass(frozen=True)
class Watched:
    """Ours among all that one Dagster has; `feeding` is the schedule that asks for hours."""

    keys: frozenset[dg.AssetKey]
    partitions: dg.HourlyPartitionsDefinition
    checks: tuple[dg.AssetCheckSpec, ...]
    jobs: frozenset[str]
    schedules: tuple[dg.ScheduleDefinition, ...]
    sensors: tuple[dg.SensorDefinition, ...]
    feeding: str

    @classmethod
    def of(cls, made: dg.Definitions, feeding: str) -> "Watched":
        """Return what is to be watched of definitions; their assets by the hour share the hours."""
        assets = [asset for asset in made.assets or () if isinstance(asset, dg.AssetsDefinition)]
        hourly = {
            key: asset.partitions_def
            for asset in assets
            for key in asset.keys
            if isinstance(asset.partitions_def, dg.HourlyPartitionsDefinition)
        }
        checks, schedules = [*assets, *(made.asset_checks or ())], made.schedules or ()
        return cls(
            keys=frozenset(hourly),
            partitions=next(iter(hourly.values())),
            checks=tuple(spec for one in checks for spec in one.check_specs),
            jobs=frozenset(job.name for job in made.jobs or ()),
            schedules=tuple(s for s in schedules if isinstance(s, dg.ScheduleDefinition)),
            sensors=tuple(made.sensors or ()),
            feeding=feeding,
        )

    def is_ours(self, run: dg.DagsterRun, place: str | None) -> bool:
        """Whether a run is of a job of ours, or over our assets; `place` is our code location."""
        origin = run.remote_job_origin
        if place is not None and origin is not None and origin.location_name != place:
            return False
        return run.job_name in self.jobs or bool(self.keys & (run.asset_selection or set()))

    def open(self, instance: dg.DagsterInstance, hours: Iterable[Span]) -> list[Span]:
        """Return those of the hours that an asset lacks, or whose latest run has failed.

        Hours that are no partitions any more are nobody's concern.
        """
        end = self.partitions.end
        named = {
            key_of(hour): hour
            for span in hours
            for hour in span.hours()
            if hour >= self.partitions.start and (end is None or hour < end)
        }
        missing: set[str] = set()
        for asset in self.keys:
            found = instance.get_status_by_partition(asset, list(named), self.partitions) or {}
            done = (k for k, told in found.items() if told is AssetPartitionStatus.MATERIALIZED)
            missing |= named.keys() - set(done)
        return spans_of(named[key] for key in missing)
