"""Upkeep of the tables: nightly maintenance, and work after columns were added or others wrote.

- `maintenance`: the nightly steps for one table, with `compaction` and `damage`.
- `column_backfill`: fill columns that were added to a table with rows. `kept_headers` derives their
  values from the headers in `instance`.
- `repair`: derive anew what other programs wrote.
"""
