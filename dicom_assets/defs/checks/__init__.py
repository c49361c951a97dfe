"""Asset checks, by who reads them.

- `service` is for the PACS administrator, `tables` for the researcher, `upkeep` for the data
  engineer.
- `description`: name, text and remedy of a check; `due_hours`: the hours that should be there by
  now.

A check stands on the external asset of the service and has a job and a schedule
(`defs.schedules.check_jobs`). What is compared, and how, is in `tables.questions`.
"""
