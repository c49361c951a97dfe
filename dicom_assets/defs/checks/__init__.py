"""Asset checks, grouped by their readers.

- `service`: for the PACS administrator; `tables`: for the researcher; `upkeep`: for the data
  engineer.
- `description`: the words of a check; `definition`: a check as Dagster runs it; `due_hours`: the
  hours that all tables should show by now.

All checks stand on the external asset of the service, and run in jobs of their own
(`defs.schedules.check_jobs`). The comparisons themselves are in `tables.questions`.
"""
