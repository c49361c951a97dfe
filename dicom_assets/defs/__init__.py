"""The Dagster side: assets, IO manager, resources, checks, schedules, sensors, alerts.

Everything that imports Dagster is here, but `definitions` (the wiring) and the commands.

- `assets`: the four assets, top to bottom.
- `io_manager`: commits what an asset returns, loads what an hour touched.
- `resources`: the DICOM service; `storage`: where the tables lie.
- `names`: the names that Dagster knows all of it by.
- `partitions`: hours as partitions; `run_tags`: which hours a run is for; `pool`: one writer at a
  time.
- `adoption`: tell Dagster which hours the tables show, without runs.
- `descriptions`: texts, column schemas and lineage for the asset pages.
- `schedules`: jobs, schedules and sensors that start runs.
- `checks`: asset checks; `alerts`: messages to people; `check_words`: the words that both share.
"""
