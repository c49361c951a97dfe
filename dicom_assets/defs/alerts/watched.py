"""The definitions that alerts watch: checks, jobs, schedules, sensors, and hours of assets."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from dicom_assets.defs.partitions import hour_key, materialized
from dicom_assets.window import Span, spans_of


@dataclass(frozen=True)
class Watched:
    """Our definitions among all of one Dagster; `schedule` is the one that requests hours."""

    keys: frozenset[dg.AssetKey]
    partitions: dg.HourlyPartitionsDefinition
    checks: tuple[dg.AssetCheckSpec, ...]
    jobs: frozenset[str]
    schedules: tuple[dg.ScheduleDefinition, ...]
    sensors: tuple[dg.SensorDefinition, ...]
    schedule: str

    @classmethod
    def of(cls, definitions: dg.Definitions, schedule: str) -> "Watched":
        """Return all that is watched of definitions, whose hourly assets share their partitions."""
        assets = [a for a in definitions.assets or () if isinstance(a, dg.AssetsDefinition)]
        hourly = {
            key: asset.partitions_def
            for asset in assets
            for key in asset.keys
            if isinstance(asset.partitions_def, dg.HourlyPartitionsDefinition)
        }
        checked, schedules = [*assets, *(definitions.asset_checks or ())], definitions.schedules
        return cls(
            keys=frozenset(hourly),
            partitions=next(iter(hourly.values())),
            checks=tuple(spec for one in checked for spec in one.check_specs),
            jobs=frozenset(job.name for job in definitions.jobs or ()),
            schedules=tuple(s for s in schedules or () if isinstance(s, dg.ScheduleDefinition)),
            sensors=tuple(definitions.sensors or ()),
            schedule=schedule,
        )

    def is_ours(self, run: dg.DagsterRun, location: str | None) -> bool:
        """Return True for a run of our jobs or over our assets, in our code location."""
        origin = run.remote_job_origin
        if location is not None and origin is not None and origin.location_name != location:
            return False
        return run.job_name in self.jobs or bool(self.keys & (run.asset_selection or set()))

    def open_hours(self, instance: dg.DagsterInstance, spans: Iterable[Span]) -> list[Span]:
        """Return the hours that are still partitions and that an asset lacks or failed at last."""
        end = self.partitions.end
        hours = {
            hour_key(hour): hour
            for span in spans
            for hour in span.hours()
            if hour >= self.partitions.start and (end is None or hour < end)
        }
        missing: set[str] = set()
        for asset in self.keys:
            missing |= hours.keys() - materialized(instance, asset, hours, self.partitions)
        return spans_of(hours[key] for key in missing)
