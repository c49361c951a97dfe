"""The schedule at a moment: what it asks for, and the runs that carry that out."""

from datetime import datetime, timedelta

import dagster as dg

from dicom_assets.defs.run_tags import tagged_hours
from dicom_assets.window import HOUR, Span
from dicom_assets_tests.support.history import END, START
from dicom_assets_tests.support.names import JOB
from dicom_assets_tests.support.world import World

SCHEDULE = "dicom_tables_schedule"
AFTER_ALL = END + timedelta(minutes=15)


def evaluate(
    world: World, instance: dg.DagsterInstance, moment: datetime = AFTER_ALL
) -> list[dg.RunRequest] | str:
    """Return the requests of the schedule at the moment, or the reason for none."""
    repository = world.definitions.get_repository_def()
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=moment, repository_def=repository
    ) as context:
        ticked = repository.get_schedule_def(SCHEDULE).evaluate_tick(context)
    return list(ticked.run_requests or ()) or ticked.skip_message or ""


def tick(
    world: World, instance: dg.DagsterInstance, moment: datetime = AFTER_ALL
) -> list[dg.RunRequest]:
    """The runs that the schedule asks for at the moment."""
    asked = evaluate(world, instance, moment)
    return asked if isinstance(asked, list) else []


def spans(requests: list[dg.RunRequest]) -> list[tuple[int, int]]:
    """The first and the last hour of each run that is asked for, by number."""
    return [(_number(one.first), _number(one.last)) for one in map(span_of, requests)]


def span_of(request: dg.RunRequest) -> Span:
    """The hours of a run that is asked for."""
    key = {} if request.partition_key is None else {"dagster/partition": request.partition_key}
    found = tagged_hours({**request.tags, **key})
    assert found is not None
    return found


def _number(hour: datetime) -> int:
    return (hour - START) // HOUR


def carry_out(world: World, instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    """The run that was asked for is over; whether it was green."""
    job = world.definitions.resolve_job_def(JOB)
    result = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        asset_selection=request.asset_selection and list(request.asset_selection),
        raise_on_error=False,
    )
    return result.success
