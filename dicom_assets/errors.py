"""What can go wrong, grouped by what the reader should do.

    DicomAssetsError
    ├── SettingsError        change a setting, then start again
    ├── NotYetError          nothing is wrong: the hour is not closed, or an earlier step is missing
    ├── ServiceError         the DICOM service did not give what the feed promises
    │   ├── ServiceUnavailableError   it may pass: run again
    │   ├── ServiceRefusedError       it will not pass: a role, a key or a setting is missing
    │   └── ServiceAnswerError        an answer that is no answer of a DICOM service
    ├── FabricError          Fabric refused a shortcut, or did not answer
    └── TableError           a table cannot be used as it stands
        ├── ForeignTableError         what lies at the path is not this project's table
        ├── ForeignArchiveError       the tables belong to another archive
        ├── TableUnavailableError     the storage did not answer, or may not be written
        ├── DamagedTableError         files of the table are lost or cut: repair it
        ├── DoubledRowsError          an instance has several rows: nothing is derived from them
        └── ConflictError             another run committed first: read again and apply again

Messages say what happened, where (hour, page, table version), what was expected and found, and
the remedy. They never hold a value of a header, nor a UID: sequences, hours and counts only.
"""


class DicomAssetsError(Exception):
    """Something that this project knows how to explain."""


class SettingsError(DicomAssetsError):
    """A setting is wrong or missing: the message names it and what it may be."""


class NotYetError(DicomAssetsError):
    """The hour is not closed, or the step that must come before has not run."""


class ServiceError(DicomAssetsError):
    """The DICOM service did not give what the feed promises."""


class ServiceUnavailableError(ServiceError):
    """The service did not answer within the time that is allowed; running again is safe."""


class ServiceRefusedError(ServiceError):
    """The service refused; running again changes nothing until somebody acts."""


class ServiceAnswerError(ServiceError):
    """The service answered with something that is not whole or not of the feed's form."""


class FabricError(DicomAssetsError):
    """Microsoft Fabric refused what was asked, or did not answer; the message says which."""


class TableError(DicomAssetsError):
    """A table cannot be used as it stands."""


class ForeignTableError(TableError):
    """What lies at a table's path is not a table of this project."""


class ForeignArchiveError(TableError):
    """The tables were filled from another archive than the service now holds."""


class TableUnavailableError(TableError):
    """The storage of a table did not answer, or may not be written."""


class DamagedTableError(TableError):
    """Files of a table, or of its log, are lost or cut; a person has to repair it."""


class DoubledRowsError(TableError):
    """Several rows have one key; what would be derived from them would be wrong."""


class ConflictError(TableError):
    """Another run committed first; what was to be written must be derived anew."""
