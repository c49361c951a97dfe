"""The tables: what they hold, what has to change in them, and the commit. No Dagster, no HTTP.

The flow of one run: `log.add` (change, sync), `instance.apply`, then `rollups.apply` for series
and for study. Deciding is in `plan` and `rollup` (pure), storage in `store`.
"""
