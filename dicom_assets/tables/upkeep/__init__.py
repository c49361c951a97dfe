"""Upkeep of the tables: nightly maintenance, and work after columns were added or others wrote.

- `maintenance`: the nightly steps for one table, with `compaction` and `damage`.
- `column_backfill`: fill columns that were added to a table with rows. `kept_headers` derives their
  values from the headers in `instance`.
- `narrowing`: remove the rows of data partitions that are not kept any more.
- `padded_keys`: strip the padding of UIDs that Data Factory's template wrote.
- `repair`: derive anew what other programs wrote.
"""
