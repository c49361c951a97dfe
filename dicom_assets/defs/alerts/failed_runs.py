"""Problems: runs that failed and that nothing will make good, and runs that do not end.

The schedule requests failed hours again. So a run over hours is a problem from its last attempt
on, or at once when its cause lasts. All hours with the same cause are one problem, which is over
when the assets have them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec
from dagster._core.storage.tags import (
    AUTOMATION_CONDITION_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    WILL_RETRY_TAG,
)

from dicom_assets.defs.alerts.causes import Cause, cause_of
from dicom_assets.defs.alerts.ledger import Ledger, Problem, RunFailure
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.check_words import ReaderRole
from dicom_assets.defs.partitions import hour_key
from dicom_assets.defs.run_tags import LAST_ATTEMPT, UNFINISHED, attempt_of, tagged_hours
from dicom_assets.window import Span

# How far the first look of an empty ledger goes back.
_FIRST_LOOK = timedelta(days=2)
# A run is in the storage a little later than the end that it states.
_OVERLAP = timedelta(minutes=2)
# A person who starts a run sees how it ends. Nobody sees the runs with one of these tags.
_UNSEEN = {SCHEDULE_NAME_TAG, SENSOR_NAME_TAG, AUTOMATION_CONDITION_TAG}
_SPANS_NAMED = 5
# A run without hours takes minutes: checks, maintenance. A longer one hangs, or waits for another.
_ENDLESS_HOURS = 3


@dataclass(frozen=True)
class RunWatch:
    """The runs of an instance that are ours, in a code location."""

    instance: dg.DagsterInstance
    watched: Watched
    location: str | None

    def update(self, ledger: Ledger, now: datetime) -> list[Problem]:
        """Bring the failures of the ledger up to date, and return the problems with runs."""
        since = (ledger.last_look or now - _FIRST_LOOK) - _OVERLAP
        for key, failure in self._failures(since):
            if known := ledger.failures.get(key):
                failure.since, failure.hours = known.since, [*known.hours, *failure.hours]
            ledger.failures[key] = failure
        still_open = {key: self._still_open(one) for key, one in ledger.failures.items()}
        ledger.failures = {key: one for key, one in still_open.items() if one}
        failed = [_problem(key, failure) for key, failure in ledger.failures.items()]
        return [*failed, *self._endless(now)]

    def _failures(self, since: datetime) -> Iterator[tuple[str, RunFailure]]:
        """Yield the failures since a moment that need a person, by key, the oldest first."""
        wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
        records = self.instance.get_run_records(wanted, order_by="update_timestamp", ascending=True)
        for record in records:
            run = record.dagster_run
            if not self.watched.is_ours(run, self.location):
                continue
            # The cause is the first error of a step, or that of the run.
            kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
            logs = self.instance.all_logs(run.run_id, of_type=kinds)
            data = (log.dagster_event.event_specific_data for log in logs if log.dagster_event)
            errors = (getattr(one, "error", None) for one in data)
            cause, hours = cause_of(next(filter(None, errors), None)), tagged_hours(run.tags)
            if self._needs_person(run, hours, cause):
                yield _failure(record, hours, cause)

    def _needs_person(self, run: dg.DagsterRun, hours: Span | None, cause: Cause) -> bool:
        if run.tags.get(WILL_RETRY_TAG) == "true":
            return False
        attempt, is_unseen = attempt_of(run.tags), bool(_UNSEEN & run.tags.keys())
        if hours is not None:
            return attempt >= LAST_ATTEMPT or cause.lasts or (is_unseen and not attempt)
        if not is_unseen or not cause.passes:
            return is_unseen
        # A cause that passes is a problem when the run of the job before this one failed, too.
        ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
        wanted = dg.RunsFilter(job_name=run.job_name, statuses=ended)
        before = self.instance.get_runs(wanted, cursor=run.run_id, limit=1)
        return any(one.status is dg.DagsterRunStatus.FAILURE for one in before)

    def _still_open(self, failure: RunFailure) -> RunFailure | None:
        """Return the failure with the hours that are still open; None when it is over."""
        if failure.hours:
            hours = self.watched.open_hours(self.instance, failure.hours)
            return msgspec.structs.replace(failure, hours=hours) if hours else None
        success = [dg.DagsterRunStatus.SUCCESS]
        later = dg.RunsFilter(job_name=failure.job, statuses=success, updated_after=failure.latest)
        return None if self.instance.get_runs(later, limit=1) else failure

    def _endless(self, now: datetime) -> Iterator[Problem]:
        """Yield a problem for each run without hours that has neither ended nor begun in time."""
        before = now - timedelta(hours=_ENDLESS_HOURS)
        wanted = dg.RunsFilter(statuses=UNFINISHED, created_before=before)
        for record in self.instance.get_run_records(wanted):
            run = record.dagster_run
            if self.watched.is_ours(run, self.location) and tagged_hours(run.tags) is None:
                yield Problem(
                    key=f"endless {run.job_name}",
                    reader=ReaderRole.PLATFORM,
                    title=f"the job {run.job_name} does not end",
                    text=f"A run of this job has not ended after {_ENDLESS_HOURS} hours. Open Runs "
                    "and terminate the run that hangs. A queued run waits for others.",
                    page=f"runs/{run.run_id}",
                    since=record.create_timestamp,
                )


def _failure(record: dg.RunRecord, hours: Span | None, cause: Cause) -> tuple[str, RunFailure]:
    run = record.dagster_run
    ended = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
    title = "hours that are not in the tables" if hours else f"the job {run.job_name} failed"
    name = cause.name or "killed"
    return f"run {'hours' if hours else run.job_name} {name}", RunFailure(
        reader=cause.reader,
        title=f"{title} ({name})",
        text=cause.text,
        run_id=run.run_id,
        since=ended,
        latest=ended,
        job=run.job_name,
        hours=[hours] if hours else [],
    )


def _problem(key: str, failure: RunFailure) -> Problem:
    text, hours, page = failure.text, failure.hours, f"runs/{failure.run_id}"
    if hours:
        spans = [f"{hour_key(span.first)} … {hour_key(span.last)}" for span in hours[:_SPANS_NAMED]]
        more = f" and {len(hours) - _SPANS_NAMED} more spans" if len(hours) > _SPANS_NAMED else ""
        text = (
            f"{sum(span.count for span in hours)} hours are not in the tables: {', '.join(spans)}"
            f"{more} (UTC). The schedule requests them again by itself, in the end once a day.\n"
            f"{text}"
        )
    return Problem(key, failure.reader, failure.title, text, page, failure.since)
