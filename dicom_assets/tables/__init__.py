"""The tables: what they hold, what has to change in them, and the commit. No Dagster, no HTTP.

The flow of one run: `change.AddEntries`, `instance.FollowLog`, then `rollup.DeriveStudies` for
series and for study.

- `catalogue`: every table, one name each.
- `change`, `sync`, `instance`, `rollup` (series and study), `rejected`: the tables.
- `plan`, `aggregates`, `readings`, `outcome`: pure functions that decide and count.
- `touched`: the rows that an hour touched, for assets downstream.
- `delta`: snapshots and commits; `upkeep`: what is done to tables at night, or once; `questions`:
  what is asked of tables, without changing them.
"""
