"""The errors of a failed run, with every cause that Dagster keeps."""

import dagster as dg


def complaint(result: dg.ExecuteInProcessResult) -> str:
    """The texts of all errors of the run's failed steps; fails when the run is green."""
    assert not result.success, "the run was expected to be red"
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return "\n".join(error.to_string() for error in errors if error is not None)
