"""Jobs, their schedules, and sensors that start runs.

- `missing_hours`: the job that brings the tables to an hour, and what asks for missing hours.
- `slices`: which hours are due and in which slices (pure); `past_runs`: what Dagster knows of them.
- `check_jobs`: jobs of asset checks; `maintenance`: the nightly job; `columns`: the job that
  backfills newly added columns.
- `status`: whether a schedule is on when it is loaded first.
"""
