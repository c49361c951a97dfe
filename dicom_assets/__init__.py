"""Keep Delta tables of DICOM instances, series and studies in step with a DICOM service.

The story in Dagster is `defs` (start at `defs.assets`); `definitions` wires it from `settings`.
`feed` reads the service, `header` and `schema` turn a header into columns, `tables` decides and
commits; `feed_contract` is what passes from the first to the last. `report` draws a page about the
tables. `window` counts time, `errors` names what can go wrong. `cli` lists the commands, which live
in `commands`; `emulator` is a DICOM service on this machine.
"""
