"""Jobs, their schedules, and sensors that start runs.

- `missing_hours`: the job that loads hours into the tables, its schedule and its sensors.
- `slices`: the hours that are due, in slices (pure); `past_runs`: runs over hours in Dagster.
- `check_jobs`: jobs of asset checks; `maintenance`: the nightly job; `columns`: the job that
  backfills newly added columns and tables.
"""
