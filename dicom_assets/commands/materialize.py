"""The hours of an archive brought into the tables by a run of Dagster in this process."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from dicom_assets import errors
from dicom_assets.commands.home import origin_of
from dicom_assets.definitions import build_definitions
from dicom_assets.defs.names import Names
from dicom_assets.defs.run_tags import tags_of
from dicom_assets.settings import Settings
from dicom_assets.window import Span


def materializer(settings: Settings, home: Path) -> Callable[[Span], list[str] | None]:
    """Return a function that materializes the four assets for hours by one run.

    It returns None when the run succeeded, else those messages of its failures that are ours: the
    others may quote patients' values.
    """
    job = build_definitions(settings).resolve_job_def(Names().tables)

    def materialize(hours: Span) -> list[str] | None:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            result = job.execute_in_process(
                instance=instance,
                tags=tags_of(hours),
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
            # With it the first page shows the run, as one of its code location.
            instance.run_storage.replace_job_origin(result.dagster_run, origin_of(job.name))
        if result.success:
            return None
        failures = [event.step_failure_data.error for event in result.get_step_failure_events()]
        causes = [error.cause or error for error in failures if error is not None]
        return [cause.message for cause in causes if hasattr(errors, cause.cls_name or "")]

    return materialize
