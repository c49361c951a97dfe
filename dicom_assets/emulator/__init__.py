"""A DICOM service on this machine: Azure Health Data Services as its change feed shows it.

`archive` remembers, `headers` reads DICOM files, `application` speaks HTTP, `server` puts it on a
port, `sample` fills an archive with real files. It stands alone: it imports nothing of the rest
of the project, and nothing of Dagster, so that any client of the service can be tried on it.
"""
