"""Questions to the tables. None of them changes a row of `instance`, `series` or `study`.

| module | question |
|---|---|
| `audit` | Are the sealed hours still what the service serves? It removes the seals of others. |
| `seals` | Has the log the entries of every sealed hour? It removes the seals of others. |
| `reconcile` | Are the studies as large as the service says? |
| `find` | Why is a study, series or instance in the tables, or not? |
| `study_search` | Which studies fit the words of a person? |
| `erasure` | Where is a study still stored, and until when? |
| `integrity` | Is there one row per key, no orphan, no wrong count? |
| `plausibility` | Are values missing more often than before, unparsable, or in the future? |
| `freshness` | Have all tables followed the due hours? |
| `lag` | How many entries does the service have that the tables do not have? |
| `commits` | Which other programs have changed data, and are newest commits lost? |
| `conflicts` | How often did a commit come after that of another run? |
| `conformity` | Do columns, protocol and properties of the tables match this version? |
| `arrivals` | What came in lately, which devices are silent, which columns got worse? |
| `growth` | How large are tables and logs, and how much room is left? |
"""
