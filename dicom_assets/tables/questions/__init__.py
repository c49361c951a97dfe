"""Questions to the tables; none changes a row of `instance`, `series` or `study`.

- `audit` and `reconcile` compare the tables with the service; `find`: why an instance is there or
  not; `erasure`: what still holds a study.
- `integrity`: keys, orphans, counts; `rates`, `parsing`, `dates`: are the values plausible?
- `freshness`, `lag`: how far the tables are; `conflicts`, `conformity`, `growth`: how they are
  kept.
"""
