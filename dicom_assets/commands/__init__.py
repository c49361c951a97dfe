"""The commands of `dicom-assets`, a module or a room for each, named like it.

- `demo`, `adopt`, `docs`, `alerts_test`, `find`, `erasure`: a module each.
- `check`, `estimate`, `migrate`, `fabric`: a room each.
- `home`: DAGSTER_HOME for commands that start Dagster; `progress`: a bar for what takes long.

Here is what a person is told, and asked. What is true of the tables is decided in `tables`.
"""
