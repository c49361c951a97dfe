"""Every column of every table, once.

Adding a column is adding one line here: extraction, the Delta schema, Dagster's column schema and
lineage, and the reference in docs are derived from these catalogues. How a value is read from a
header is in `feed.decode`; how a rollup is computed is in `tables.rollup`.

Names, order and types of the Azure Data Factory template's columns are kept byte for byte; what
is ours comes after them.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa

STRING = pa.string()
INT64 = pa.int64()
DATE = pa.date32()
TIMESTAMP = pa.timestamp("us", "UTC")
HEADER_MAP = pa.map_(
    pa.string(), pa.struct([("vr", pa.string()), ("Value", pa.list_(pa.string()))])
)

PARTITION_COLUMN = "partitionName"

Aggregate: TypeAlias = Literal["latest", "max", "count", "count_distinct"]


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type and meaning, and where its value comes from.

    `keyword`, `tag` (8 hexadecimal digits) and `vr` name a DICOM attribute (PS3.6) when the value
    is read from the header. `source` and `aggregate` say which column of `instance` a rollup
    reads, and how. Without either, the value is the feed's or the project's own.
    """

    name: str
    type: pa.DataType
    meaning: str
    keyword: str | None = None
    tag: str | None = None
    vr: str | None = None
    source: str | None = None
    aggregate: Aggregate | None = None

    def field(self) -> "pa.Field[Any]":
        """Return the Arrow field, with the DICOM attribute in its metadata."""
        known = {"dicom.keyword": self.keyword, "dicom.tag": self.tag, "dicom.vr": self.vr}
        return pa.field(self.name, self.type, metadata={k: v for k, v in known.items() if v})


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, and the columns that make a row's key.

    A row of a guarded table is only replaced or deleted by a `sequence` that is not smaller.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partition_column: str | None = None
    is_guarded: bool = False

    @property
    def partition_columns(self) -> list[str]:
        """The names of Delta's partition columns: one or none."""
        return [self.partition_column] if self.partition_column else []

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.columns]

    def arrow(self, names: list[str] | None = None) -> pa.Schema:
        """Return the Arrow schema of all columns, or of those named, in the table's order."""
        return pa.schema([c.field() for c in self.columns if names is None or c.name in names])

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


def attribute(
    keyword: str, tag: str, vr: str, *, name: str | None = None, type_: pa.DataType = STRING
) -> Column:
    """Return the column of `instance` that holds a DICOM attribute; its name is the keyword's."""
    meaning = f"{keyword} as stored" if type_ == STRING else f"{keyword} as a {type_}"
    return Column(name or keyword.lower(), type_, meaning, keyword, tag, vr)


INSTANCE = Table(
    "instance",
    key=("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid"),
    partition_column=PARTITION_COLUMN,
    is_guarded=True,
    columns=(
        Column("partitionName", STRING, "data partition of the DICOM service"),
        attribute("StudyInstanceUID", "0020000D", "UI"),
        attribute("SeriesInstanceUID", "0020000E", "UI"),
        attribute("SOPInstanceUID", "00080018", "UI"),
        Column("lastModifiedTimestamp", TIMESTAMP, "time of the change that the row shows"),
        attribute("StudyDate", "00080020", "DA"),
        attribute("StudyDate", "00080020", "DA", name="studydate_formatted", type_=DATE),
        attribute("StudyDescription", "00081030", "LO"),
        attribute("IssuerOfPatientID", "00100021", "LO"),
        attribute("PatientID", "00100020", "LO"),
        attribute("PatientName", "00100010", "PN"),
        attribute("Modality", "00080060", "CS"),
        attribute("SOPClassUID", "00080016", "UI"),
        Column("filepath", STRING, "path of the file in the service's own Data Lake storage"),
        Column("metadata", HEADER_MAP, "the header as a map; filled only when asked for"),
        Column("metadata_string", STRING, "the header as DICOM JSON, verbatim"),
        Column("created_date", TIMESTAMP, "when the row was last loaded"),
        attribute("PatientBirthDate", "00100030", "DA"),
        attribute("AccessionNumber", "00080050", "SH"),
        attribute("ReferringPhysicianName", "00080090", "PN"),
        attribute("ModalitiesInStudy", "00080061", "CS"),
        attribute("PerformedProcedureStepStartDate", "00400244", "DA"),
        attribute("ManufacturerModelName", "00081090", "LO"),
        attribute("StudyTime", "00080030", "TM"),
        attribute("TimezoneOffsetFromUTC", "00080201", "SH"),
        attribute("NumberOfStudyRelatedSeries", "00201206", "IS"),
        attribute("NumberOfStudyRelatedInstances", "00201208", "IS"),
        attribute("SeriesNumber", "00200011", "IS"),
        attribute("SeriesDescription", "0008103E", "LO"),
        attribute("NumberOfSeriesRelatedInstances", "00201209", "IS"),
        attribute("BodyPartExamined", "00180015", "CS"),
        attribute("Laterality", "00200060", "CS"),
        attribute("SeriesDate", "00080021", "DA"),
        attribute("SeriesTime", "00080031", "TM"),
        attribute("InstanceNumber", "00200013", "IS"),
        attribute("DocumentTitle", "00420010", "ST"),
        Column("sequence", INT64, "sequence of the change that the row shows"),
        Column("received_timestamp", TIMESTAMP, "when the service received the instance"),
    ),
)

_UIDS = (
    Column("partitionName", STRING, "data partition of the DICOM service"),
    Column("studyinstanceuid", STRING, "StudyInstanceUID", "StudyInstanceUID", "0020000D", "UI"),
    Column("seriesinstanceuid", STRING, "SeriesInstanceUID", "SeriesInstanceUID", "0020000E", "UI"),
    Column("sopinstanceuid", STRING, "SOPInstanceUID", "SOPInstanceUID", "00080018", "UI"),
)

CHANGE = Table(
    "change",
    key=("sequence",),
    columns=(
        Column("sequence", INT64, "the feed's number of the change"),
        *_UIDS,
        Column("action", STRING, "Create, Update or Delete"),
        Column("timestamp", TIMESTAMP, "time of the change, cut to the microsecond"),
        Column("timestamp_ticks", INT64, "time of the change in 100 ns since 1970, exact"),
        Column("filepath", STRING, "path in the service's Data Lake storage when first read"),
        Column(
            "state", STRING, "state when last read; only Deleted lasts (no Delete entry needed)"
        ),
    ),
)

SYNC = Table(
    "sync",
    key=("hour",),
    columns=(
        Column("hour", TIMESTAMP, "start of the hour"),
        Column("creates", INT64, "Create entries"),
        Column("updates", INT64, "Update entries"),
        Column("deletes", INT64, "Delete entries"),
        Column("rejected", INT64, "entries of the hour that could not be used when it was read"),
        Column("firstSequence", INT64, "smallest sequence of the hour"),
        Column("lastSequence", INT64, "greatest sequence of the hour"),
        Column("digest", STRING, "SHA-256 over the sequences in ascending order, 8 bytes each"),
        Column(
            "windowStart", TIMESTAMP, "from when the hour was read: DICOM_START_TIME may cut it"
        ),
        Column("windowEnd", TIMESTAMP, "until when the hour was read: DICOM_END_TIME may cut it"),
        Column("sealedAt", TIMESTAMP, "when the hour was last read with this digest"),
        Column("instanceAt", TIMESTAMP, "when instance was brought to this seal"),
        Column("seriesAt", TIMESTAMP, "when series was brought to this seal"),
        Column("studyAt", TIMESTAMP, "when study was brought to this seal"),
    ),
)

REJECTED = Table(
    "rejected",
    key=("sequence",),
    columns=(
        Column("sequence", INT64, "sequence of the entry; null when it has none"),
        Column("timestamp_ticks", INT64, "time of the entry in 100 ns since 1970, if readable"),
        Column("reason", STRING, "why it cannot be used; never a value"),
        Column("window_start", TIMESTAMP, "start of the hour that was read"),
        Column("run_id", STRING, "the Dagster run that met it last"),
        Column("attempts", INT64, "how often it was tried"),
        Column("next_attempt", TIMESTAMP, "when it is tried again"),
    ),
)


def latest(name: str, source: str, type_: pa.DataType = STRING) -> Column:
    """Return a rollup column: the value of the live instance with the greatest sequence."""
    origin = INSTANCE[source]
    meaning = f"{origin.keyword or origin.name} of the live instance with the greatest sequence"
    return Column(
        name, type_, meaning, origin.keyword, origin.tag, origin.vr, source, aggregate="latest"
    )


def rolled(name: str, source: str, aggregate: Aggregate, meaning: str) -> Column:
    """Return a rollup column that counts or compares the live instances; int64."""
    return Column(name, INT64, meaning, source=source, aggregate=aggregate)


_SHARED_ROLLUPS = (
    latest("lastModifiedTimestamp", "lastModifiedTimestamp", TIMESTAMP),
    latest("studyDate", "studydate_formatted", DATE),
    latest("studyDescription", "studydescription"),
    latest("issuerOfPatientId", "issuerofpatientid"),
    latest("patientId", "patientid"),
    latest("patientName", "patientname"),
)

SERIES = Table(
    "series",
    key=("partitionName", "studyInstanceUid", "seriesInstanceUid"),
    partition_column=PARTITION_COLUMN,
    columns=(
        latest("partitionName", "partitionName"),
        latest("studyInstanceUid", "studyinstanceuid"),
        latest("seriesInstanceUid", "seriesinstanceuid"),
        *_SHARED_ROLLUPS,
        latest("modality", "modality"),
        rolled("instanceCount", "sopinstanceuid", "count", "live instances"),
        rolled("sequence", "sequence", "max", "greatest sequence of a live instance"),
    ),
)

STUDY = Table(
    "study",
    key=("partitionName", "studyInstanceUid"),
    partition_column=PARTITION_COLUMN,
    columns=(
        latest("partitionName", "partitionName"),
        latest("studyInstanceUid", "studyinstanceuid"),
        *_SHARED_ROLLUPS,
        rolled("seriesCount", "seriesinstanceuid", "count_distinct", "series with live instances"),
        rolled("instanceCount", "sopinstanceuid", "count", "live instances"),
        rolled("sequence", "sequence", "max", "greatest sequence of a live instance"),
    ),
)

TABLES = (CHANGE, SYNC, INSTANCE, SERIES, STUDY, REJECTED)
