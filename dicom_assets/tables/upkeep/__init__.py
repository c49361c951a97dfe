"""What is done to tables at night, or once.

- `maintenance`: the night of one table; `compaction`: join small files; `damage`: is the table
  whole?
- `column_backfill`: fill columns that were added to a table with rows, from `kept_headers`;
  `rederive`: derive `series` and `study` anew for every study.
"""
