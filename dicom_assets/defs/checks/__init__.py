"""Asset checks, grouped by their readers.

- `service`: for the PACS administrator; `tables`: for the researcher; `upkeep`: for the data
  engineer.
- `definition`: a check, its words and as Dagster runs it.

All checks stand on the external asset of the service, and run in jobs of their own
(`defs.schedules.check_jobs`). The comparisons themselves are in `tables.questions`.
"""
