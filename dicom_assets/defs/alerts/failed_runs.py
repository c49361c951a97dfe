"""Runs that need a person: failed ones that nobody starts again, or in vain; and endless ones.

A run over hours is asked for again by the schedule, so it is told of from its last attempt on, or
at once when its cause lasts. One alert stands for all hours with the same cause; it is over when
the assets have them.
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
from dicom_assets.defs.alerts.ledger import Failure, Ledger, Problem
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.check_words import ReaderRole
from dicom_assets.defs.partitions import key_of
from dicom_assets.defs.run_tags import LAST_ATTEMPT, UNFINISHED, attempt_of, hours_of
from dicom_assets.window import Span

# How far the first look looks back; what still fails has failed since then.
FIRST_LOOK = timedelta(days=2)
# A run is seen a little later than it says that it ended.
_OVERLAP = timedelta(minutes=2)
# Who starts a run on the page sees how it ends; nobody sees those.
_UNSEEN = {SCHEDULE_NAME_TAG, SENSOR_NAME_TAG, AUTOMATION_CONDITION_TAG}
_SPANS_NAMED = 5
# A run without hours looks at tables or keeps them: minutes. Longer, it hangs or waits behind one.
_ENDLESS = timedelta(hours=3)


@dataclass(frozen=True)
class Look:
    """One look at the runs of an instance: ours, in the code location `place`."""

    instance: dg.DagsterInstance
    watched: Watched
    place: str | None

    def update(self, ledger: Ledger, now: datetime) -> list[Problem]:
        """The ledger's failures are those that need a person now; returns them as problems."""
        since = (ledger.looked or now - FIRST_LOOK) - _OVERLAP
        for key, failure in self._failed(since):
            ledger.failures[key] = _merged(ledger.failures.get(key), failure)
        left = {key: self._left(failure) for key, failure in ledger.failures.items()}
        ledger.failures = {key: failure for key, failure in left.items() if failure}
        failed = [_problem(key, failure) for key, failure in ledger.failures.items()]
        return [*failed, *self._endless(now)]

    def _endless(self, now: datetime) -> Iterator[Problem]:
        """Yield a problem for each job without hours of which a run does not end, or not begin."""
        wanted = dg.RunsFilter(statuses=UNFINISHED, created_before=now - _ENDLESS)
        for record in self.instance.get_run_records(wanted):
            run = record.dagster_run
            if self.watched.is_ours(run, self.place) and hours_of(run.tags) is None:
                yield _waiting(record)

    def _failed(self, since: datetime) -> Iterator[tuple[str, Failure]]:
        """Yield the failures since a moment that need a person, the oldest first, by their keys."""
        wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
        found = self.instance.get_run_records(wanted, order_by="update_timestamp", ascending=True)
        for record in found:
            run = record.dagster_run
            if self.watched.is_ours(run, self.place):
                cause, hours = self._cause(run.run_id), hours_of(run.tags)
                if self._needs_somebody(run, hours, cause):
                    yield _failure(record, hours, cause)

    def _cause(self, run_id: str) -> Cause:
        """Return why a run failed: the error of its first step that has one, or of the run."""
        kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
        events = (entry.dagster_event for entry in self.instance.all_logs(run_id, of_type=kinds))
        told = (getattr(event.event_specific_data, "error", None) for event in events if event)
        return cause_of(next(filter(None, told), None))

    def _needs_somebody(self, run: dg.DagsterRun, hours: Span | None, cause: Cause) -> bool:
        if run.tags.get(WILL_RETRY_TAG) == "true":
            return False
        attempt, is_unseen = attempt_of(run.tags), bool(_UNSEEN & run.tags.keys())
        if hours is None:
            return is_unseen and (not cause.passes or self._failed_before(run))
        return attempt >= LAST_ATTEMPT or cause.lasts or (is_unseen and not attempt)

    def _failed_before(self, run: dg.DagsterRun) -> bool:
        """Whether the run of the job before this one has failed too."""
        ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
        wanted = dg.RunsFilter(job_name=run.job_name, statuses=ended)
        before = self.instance.get_runs(wanted, cursor=run.run_id, limit=1)
        return any(one.status is dg.DagsterRunStatus.FAILURE for one in before)

    def _left(self, failure: Failure) -> Failure | None:
        """Return what is left of a failure: the hours that are still open; None when it is over."""
        if failure.hours:
            hours = self.watched.open(self.instance, failure.hours)
            return msgspec.structs.replace(failure, hours=hours) if hours else None
        succeeded = dg.RunsFilter(
            job_name=failure.job,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            updated_after=failure.latest,
        )
        return None if self.instance.get_runs(succeeded, limit=1) else failure


def _failure(record: dg.RunRecord, hours: Span | None, cause: Cause) -> tuple[str, Failure]:
    run = record.dagster_run
    ended = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
    what = "hours that are not in the tables" if hours else f"the job {run.job_name} failed"
    named = cause.name or "killed"
    return f"run {'hours' if hours else run.job_name} {named}", Failure(
        reader=cause.reader,
        title=f"{what} ({named})",
        text=cause.text,
        run_id=run.run_id,
        since=ended,
        latest=ended,
        job=run.job_name,
        hours=[hours] if hours else [],
    )


def _waiting(record: dg.RunRecord) -> Problem:
    run = record.dagster_run
    hours = f"{_ENDLESS.total_seconds() / 3600:.0f} hours"
    return Problem(
        key=f"endless {run.job_name}",
        reader=ReaderRole.PLATFORM,
        title=f"the job {run.job_name} does not end",
        text=f"A run of it has not ended for {hours}. Look at Runs: end what hangs. One that is "
        "queued waits for others.",
        page=f"runs/{run.run_id}",
        since=record.create_timestamp,
    )


def _merged(known: Failure | None, failure: Failure) -> Failure:
    """Return the later failure, with the hours of the earlier one and its beginning."""
    if known is None:
        return failure
    hours = [*known.hours, *failure.hours]
    return msgspec.structs.replace(failure, since=known.since, hours=hours)


def _problem(key: str, failure: Failure) -> Problem:
    return Problem(
        key=key,
        reader=failure.reader,
        title=failure.title,
        text=f"{_told(failure.hours)}{failure.text}",
        page=f"runs/{failure.run_id}",
        since=failure.since,
    )


def _told(hours: list[Span]) -> str:
    if not hours:
        return ""
    spans = [f"{key_of(span.first)} … {key_of(span.last)}" for span in hours[:_SPANS_NAMED]]
    more = f" and {len(hours) - _SPANS_NAMED} more spans" if len(hours) > _SPANS_NAMED else ""
    return (
        f"{sum(span.count for span in hours)} hours are not in the tables: {', '.join(spans)}"
        f"{more} (UTC). They are asked for again by themselves, once a day in the end.\n"
    )
