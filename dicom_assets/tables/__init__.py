"""The tables: their rows, the changes that they need, and the commits. No Dagster, no HTTP.

The flow of one run: `change.AddEntries`, `instance.FollowLog`, then `rollup.DeriveStudies` for
series and for study.

- `catalogue`: every table, one name each.
- `change`, `sync`, `instance`, `rollup` (series and study), `rejected`: the tables.
- `report`: `instance` without headers, for who declares it.
- `plan`, `aggregates`, `readings`: pure functions that decide and derive.
- `outcome`: the value that an asset returns, and the numbers of its commit.
- `touched`: the rows that a window touched, for assets downstream.
- `delta`: snapshots and commits.
- `upkeep`: work on tables at night, or once; `questions`: questions that change nothing.
"""
