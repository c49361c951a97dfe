"""The errors of this project, grouped by the action they ask for.

    DicomAssetsError
    ├── SettingsError        change a setting, then start again
    ├── NotYetError          nothing is wrong: the hour is not closed, or an earlier step is missing
    ├── ServiceError         the DICOM service did not give what the feed promises
    │   ├── ServiceUnavailableError   it may pass: run again
    │   ├── ServiceRefusedError       it will not pass: a role, a key or a setting is missing
    │   └── ServiceAnswerError        the answer is not one of a DICOM service, or is not whole
    ├── MiscountError        entries are without a result: report it, nothing was sealed
    ├── FabricError          Fabric refused a shortcut, or did not answer
    └── TableError           a table cannot be used as it is
        ├── ForeignTableError         the table at the path is not one of this project
        ├── ForeignArchiveError       the tables belong to another archive
        ├── TableUnavailableError     the storage did not answer, or is not writable
        ├── DamagedTableError         files of the table are lost or cut: repair it
        ├── DoubledRowsError          an instance has several rows: nothing is derived from them
        └── ConflictError             another run committed first: read again and apply again

A message gives the event, its place (hour, page, table version), the expected and the actual state,
and the remedy. It holds sequences, hours and counts, and never a UID or a value of a header.
"""


class DicomAssetsError(Exception):
    """An error that this project can explain."""


class SettingsError(DicomAssetsError):
    """A setting is wrong or missing. The message names it and its allowed values."""


class NotYetError(DicomAssetsError):
    """The hour is not closed, or an earlier step has not run."""


class ServiceError(DicomAssetsError):
    """The DICOM service did not give what the feed promises."""


class ServiceUnavailableError(ServiceError):
    """The service did not answer in the time allowed. Running again is safe."""


class ServiceRefusedError(ServiceError):
    """The service refused. A person must act before running again can help."""


class ServiceAnswerError(ServiceError):
    """The answer of the service is not whole, or not in the form of the feed."""


class MiscountError(DicomAssetsError):
    """Entries of the feed are without a result, which is a fault of this project."""

    def __init__(self, miscount: str) -> None:
        """Add the remedy, which is always the same."""
        super().__init__(f"{miscount}. Nothing was sealed. This is a fault of ours: report it")


class FabricError(DicomAssetsError):
    """Microsoft Fabric refused a request, or did not answer. The message says which."""


class TableError(DicomAssetsError):
    """A table cannot be used as it is."""


class ForeignTableError(TableError):
    """The table at a path is not a table of this project."""


class ForeignArchiveError(TableError):
    """The tables were filled from another archive than the service has now."""


class TableUnavailableError(TableError):
    """The storage of a table did not answer, or is not writable."""


class DamagedTableError(TableError):
    """Files of a table or of its Delta log are lost or cut. A person must repair it."""


class DoubledRowsError(TableError):
    """Several rows have the same key. Rows derived from them would be wrong."""


class ConflictError(TableError):
    """Another run committed first. The rows to write must be derived again."""
