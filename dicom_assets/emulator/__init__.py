"""A DICOM service on this machine: Azure Health Data Services as its change feed shows it.

`archive`: instances, headers and entries in one SQLite file.
`headers`: a DICOM file to the header that the service keeps; `validation`: the rules for values.
`ticks`: times of 100 ns. `doors`: hosts, origins and sizes that are let in.
`application`: the routes, with `feed`, `stow` (store), `qido` (search) and `updates` (bulk update).
`server`: the application on a port.
`sample`: an archive filled with pydicom's files, for the demo; `claim`: its hours. `own_files`: one
of a user's files.

It stands alone: it imports nothing of the rest of the project, and nothing of Dagster, so that any
client of the service can be tried on it.
"""
