"""The commands of `dicom-assets`, a module or a room for each. `cli` lists them.

- `demo`, `dev`, `adopt`, `docs`, `alerts_test`, `emulator`, `erasure`, `import_`, `narrow`,
  `repair`, `sql`, `status`, `view`: a module each.
- `check`, `estimate`, `find`, `migrate`, `fabric`: a room each. The command and its options are in
  `__init__`, sentences and grids in `report`.
- `home`: DAGSTER_HOME for commands that start Dagster; `progress`: the line on stderr of a command
  at work; `json_output`: the option `--json`; `lines`: lines of a report in any width;
  `materialize`: hours brought into the tables by a run of Dagster.

Here the person's words are parsed and the answers printed. Verdicts about the tables are in
`tables.questions`.
"""
