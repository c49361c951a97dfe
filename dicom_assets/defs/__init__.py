"""The Dagster side: assets, IO manager, resources, checks, schedules, sensors, alerts.

Everything that imports Dagster is here, except `definitions` (the wiring) and the commands.

- `assets`: the four assets, top to bottom.
- `io_manager`: commits the update that an asset returns, loads the rows that hours touched.
- `resources`: the DICOM service; `storage`: where the tables lie.
- `names`: the names of all objects in Dagster.
- `partitions`: hours as partitions; `run_tags`: the hours of a run; `pool`: one run at a
  time, and runs that are dead; `watchdog`: runs that hang.
- `adoption`: reports the hours that the tables show to Dagster, without runs.
- `descriptions`: descriptions, column schemas and lineage for the asset pages.
- `report`: the asset of the report, its job and schedule.
- `schedules`: jobs, schedules and sensors that start runs.
- `checks`: asset checks; `alerts`: messages to people; `check_words` and `check_results`: the words
  and the latest results that both share.
"""
