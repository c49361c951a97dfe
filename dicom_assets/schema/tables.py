"""The catalogue: every column of every table, once.

One line here adds a column for all users. Extraction, the Delta schema, Dagster's column schema and
lineage, and the reference in docs are derived from the catalogue. The columns that one user adds
come from a file (`added`).

Names, order and types of the Azure Data Factory template's columns are kept byte for byte. This
project's columns follow them. Names are keywords in lower case in `instance`, and in camel case in
`series` and `study`. A column of `instance` without a keyword has an underscore in its name.
"""

import pyarrow as pa

from dicom_assets.schema.attributes import ATTRIBUTES
from dicom_assets.schema.columns import (
    DATE,
    DOUBLE,
    HEADER_MAP,
    INT32,
    INT64,
    PARTITION_COLUMN,
    STRING,
    TIMESTAMP,
    Aggregate,
    Column,
    Table,
    attribute,
    coded,
    derived,
    template,
)

_OFFSET = "TimezoneOffsetFromUTC"


def _moment(name: str, date: str, time: str) -> Column:
    meaning = f"{date} and {time}, in UTC"
    return derived(name, TIMESTAMP, "moment", meaning, date, time, _OFFSET)


INSTANCE = Table(
    "instance",
    description=(
        "One row per live DICOM instance, as it stands now. **A green hour**: the table is at "
        "least as new as the hour; what was deleted is gone. Hours may run in any order, twice, "
        "or a year at a time."
    ),
    mark="instanceAt",
    key=("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid"),
    partition_column=PARTITION_COLUMN,
    is_guarded=True,
    columns=(
        Column("partitionName", STRING, "data partition of the DICOM service"),
        template("StudyInstanceUID"),
        template("SeriesInstanceUID"),
        template("SOPInstanceUID"),
        Column("lastModifiedTimestamp", TIMESTAMP, "time of the change that the row shows"),
        template("StudyDate"),
        template("StudyDate", DATE, "studydate_formatted"),
        template("StudyDescription"),
        template("IssuerOfPatientID"),
        template("PatientID"),
        template("PatientName"),
        template("Modality"),
        template("SOPClassUID"),
        Column("filepath", STRING, "path of the file in the service's own Data Lake storage"),
        Column("metadata", HEADER_MAP, "the header as a map; filled only when asked for"),
        Column("metadata_string", STRING, "the header as DICOM JSON, verbatim"),
        Column("created_date", TIMESTAMP, "when the row was last loaded"),
        template("PatientBirthDate"),
        template("AccessionNumber"),
        template("ReferringPhysicianName"),
        template("ModalitiesInStudy"),
        template("PerformedProcedureStepStartDate"),
        template("ManufacturerModelName"),
        template("StudyTime"),
        template("TimezoneOffsetFromUTC"),
        template("NumberOfStudyRelatedSeries"),
        template("NumberOfStudyRelatedInstances"),
        template("SeriesNumber"),
        template("SeriesDescription"),
        template("NumberOfSeriesRelatedInstances"),
        template("BodyPartExamined"),
        template("Laterality"),
        template("SeriesDate"),
        template("SeriesTime"),
        template("InstanceNumber"),
        template("DocumentTitle"),
        Column("sequence", INT64, "sequence of the change that the row shows"),
        Column("received_timestamp", TIMESTAMP, "when the service received the instance"),
        _moment("study_timestamp", "StudyDate", "StudyTime"),
        _moment("series_timestamp", "SeriesDate", "SeriesTime"),
        derived(
            "acquisition_timestamp",
            TIMESTAMP,
            "instant",
            "AcquisitionDateTime, else AcquisitionDate and AcquisitionTime, in UTC",
            *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", _OFFSET),
        ),
        _moment("content_timestamp", "ContentDate", "ContentTime"),
        attribute("PatientSex"),
        attribute("PatientAge"),
        derived(
            "patientage_years",
            DOUBLE,
            "years",
            "PatientAge in years, else from PatientBirthDate to StudyDate",
            *("PatientAge", "PatientBirthDate", "StudyDate"),
        ),
        attribute("PatientBirthDate", "patientbirthdate_formatted", DATE),
        attribute("StudyID"),
        attribute("Manufacturer"),
        attribute("InstitutionName"),
        attribute("InstitutionalDepartmentName"),
        attribute("StationName"),
        attribute("DeviceSerialNumber"),
        attribute("SoftwareVersions"),
        attribute("OperatorsName"),
        attribute("PerformingPhysicianName"),
        attribute("ProtocolName"),
        attribute("RequestedProcedureDescription"),
        attribute("PerformedProcedureStepDescription"),
        attribute("PerformedProcedureStepStartTime"),
        *coded("procedure_code", "ProcedureCodeSequence"),
        *coded("anatomic_region_code", "AnatomicRegionSequence"),
        attribute("PatientPosition"),
        attribute("ViewPosition"),
        attribute("ImageLaterality"),
        attribute("FrameOfReferenceUID"),
        attribute("AcquisitionNumber"),
        attribute("ImageType"),
        attribute("NumberOfFrames"),
        attribute("Rows"),
        attribute("Columns"),
        attribute("BitsAllocated"),
        attribute("BitsStored"),
        attribute("SamplesPerPixel"),
        attribute("PhotometricInterpretation"),
        attribute("PixelSpacing", "pixelspacing_row", at="PixelSpacing[0]"),
        attribute("PixelSpacing", "pixelspacing_column", at="PixelSpacing[1]"),
        attribute("SliceThickness"),
        attribute("LossyImageCompression"),
        attribute("BurnedInAnnotation"),
        attribute("PatientIdentityRemoved"),
        attribute("PresentationIntentType"),
        attribute("ContrastBolusAgent"),
        attribute("SpecificCharacterSet"),
    ),
)

_UIDS = (
    Column("partitionName", STRING, "data partition of the DICOM service"),
    Column("studyinstanceuid", STRING, "StudyInstanceUID", ATTRIBUTES["StudyInstanceUID"]),
    Column("seriesinstanceuid", STRING, "SeriesInstanceUID", ATTRIBUTES["SeriesInstanceUID"]),
    Column("sopinstanceuid", STRING, "SOPInstanceUID", ATTRIBUTES["SOPInstanceUID"]),
)

CHANGE = Table(
    "change",
    description=(
        "The log of the service's change feed, one row per sequence. **A green hour**: every entry "
        "of the hour is in the log, and the hour is sealed in `sync`."
    ),
    mark="sealedAt",
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
        Column(
            "dataPartitions",
            STRING,
            "data partitions that the hour was read with: sorted names, or * for all",
            added=True,
        ),
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
        Column("next_attempt", TIMESTAMP, "when it is tried again; null: when its hour is read"),
    ),
)


def latest(name: str, source: str, type_: pa.DataType | None = None) -> Column:
    """Return a rollup column: the value of the live instance with the greatest sequence."""
    return rolled(name, "latest", source, type_=type_)


def template_latest(name: str, source: str) -> Column:
    """Return a rollup column of the template, which no table of a rollup may lack."""
    return rolled(name, "latest", source, added=False)


_MEANINGS: dict[Aggregate, str] = {
    "latest": "{} of the live instance with the greatest sequence that has one",
    "same": "{} of the live instances; null when they differ",
    "max": "greatest {} of a live instance",
    "min": "least {} of a live instance",
    "sum": "sum of {} over the live instances",
    "mean": "mean of {} over the live instances",
    "distinct": "all different {} of the live instances, ascending",
    "count_distinct": "how many different {} the live instances have",
}


def rolled(  # noqa: PLR0913 - a column's facts
    name: str,
    aggregate: Aggregate,
    *sources: str,
    type_: pa.DataType | None = None,
    meaning: str = "",
    added: bool = True,
    compared: bool = True,
    of: Table = INSTANCE,
) -> Column:
    """Return a rollup column over columns of `instance`, of their type unless `type_` is given."""
    origin = of[sources[0]]
    return Column(
        name,
        origin.type if type_ is None else type_,
        meaning or _MEANINGS[aggregate].format(origin.keyword or origin.name),
        # Counts and comparisons of values do not show the attribute itself.
        origin.attribute if aggregate in {"latest", "same", "min", "max", "distinct"} else None,
        sources=sources,
        aggregate=aggregate,
        added=added,
        compared=compared,
    )


_OF_STUDY = (
    template_latest("lastModifiedTimestamp", "lastModifiedTimestamp"),
    template_latest("studyDate", "studydate_formatted"),
    template_latest("studyDescription", "studydescription"),
    template_latest("issuerOfPatientId", "issuerofpatientid"),
    template_latest("patientId", "patientid"),
    template_latest("patientName", "patientname"),
)
_INSTANCE_COUNT = rolled(
    "instanceCount", "count", "sopinstanceuid", type_=INT64, meaning="live instances", added=False
)
_SEQUENCE = rolled("sequence", "max", "sequence", added=False)
_FRAME_COUNT = rolled(
    "frameCount",
    "frames",
    "numberofframes",
    type_=INT64,
    meaning="frames of the live instances; one that tells no number is one frame",
)
_ACQUIRED = ("acquisition_timestamp", "content_timestamp")
_TIMES = (
    rolled(
        "firstAcquisitionTimestamp",
        "min",
        *_ACQUIRED,
        meaning="least acquisition_timestamp of a live instance, for want of one content_timestamp",
    ),
    rolled(
        "lastAcquisitionTimestamp",
        "max",
        *_ACQUIRED,
        meaning="greatest such time of a live instance",
    ),
)
_FIRST_RECEIVED = rolled("firstReceivedTimestamp", "min", "received_timestamp")


def _conflicts(columns: tuple[Column, ...], level: str) -> Column:
    """Return the column with the number of attributes, shown as latest, with several values."""
    shown = tuple(c.sources[0] for c in columns if c.aggregate == "latest" and c.attribute)
    meaning = (
        f"how many of the {len(shown)} attributes of the {level} shown here have several values"
    )
    return rolled("conflictCount", "conflicts", *shown, type_=INT32, meaning=meaning)


_SERIES_SHOWN = (
    latest("seriesNumber", "seriesnumber", INT32),
    latest("seriesDescription", "seriesdescription"),
    latest("protocolName", "protocolname"),
    latest("bodyPartExamined", "bodypartexamined"),
    latest("laterality", "laterality"),
    latest("patientPosition", "patientposition"),
    latest("frameOfReferenceUid", "frameofreferenceuid"),
    latest("seriesTimestamp", "series_timestamp"),
    latest("manufacturer", "manufacturer"),
    latest("manufacturerModelName", "manufacturermodelname"),
    latest("stationName", "stationname"),
    latest("deviceSerialNumber", "deviceserialnumber"),
    latest("softwareVersions", "softwareversions"),
    latest("institutionName", "institutionname"),
    latest("institutionalDepartmentName", "institutionaldepartmentname"),
    latest("operatorsName", "operatorsname"),
    latest("performedProcedureStepDescription", "performedprocedurestepdescription"),
    latest("performedProcedureStepStartDate", "performedprocedurestepstartdate"),
)
_MODALITY = template_latest("modality", "modality")

SERIES = Table(
    "series",
    description=(
        "One row per series with live instances, derived anew for every study that the hour "
        "touched. **A green hour**: these studies' series show the live instances."
    ),
    mark="seriesAt",
    key=("partitionName", "studyInstanceUid", "seriesInstanceUid"),
    partition_column=PARTITION_COLUMN,
    columns=(
        template_latest("partitionName", "partitionName"),
        template_latest("studyInstanceUid", "studyinstanceuid"),
        template_latest("seriesInstanceUid", "seriesinstanceuid"),
        *_OF_STUDY,
        _MODALITY,
        _INSTANCE_COUNT,
        _SEQUENCE,
        *_SERIES_SHOWN,
        rolled("sopClassUids", "distinct", "sopclassuid"),
        rolled(
            "sopClassNames",
            "names",
            "sopclassuid",
            meaning="the names of sopClassUids (PS3.6); a UID without a name stands for itself",
        ),
        _FRAME_COUNT,
        *_TIMES,
        _FIRST_RECEIVED,
        rolled("rows", "same", "rows"),
        rolled("columns", "same", "columns"),
        rolled("sliceThickness", "same", "slicethickness"),
        latest("accessionNumber", "accessionnumber"),
        latest("patientSex", "patientsex"),
        latest("patientBirthDate", "patientbirthdate_formatted"),
        latest("patientAge", "patientage"),
        _conflicts((_MODALITY, *_SERIES_SHOWN), "series"),
    ),
)

_STUDY_SHOWN = (
    latest("accessionNumber", "accessionnumber"),
    latest("studyId", "studyid"),
    latest("referringPhysicianName", "referringphysicianname"),
    latest("requestedProcedureDescription", "requestedproceduredescription"),
    latest("procedureCode", "procedure_code"),
    latest("procedureCodeMeaning", "procedure_code_meaning"),
    latest("studyTime", "studytime"),
    latest("studyTimestamp", "study_timestamp"),
    latest("patientBirthDate", "patientbirthdate_formatted"),
    latest("patientSex", "patientsex"),
    latest("patientAge", "patientage"),
    latest("patientAgeYears", "patientage_years"),
)

STUDY = Table(
    "study",
    description=(
        "One row per study with live instances, derived anew for every study that the hour "
        "touched. **A green hour**: these studies show the live instances."
    ),
    mark="studyAt",
    key=("partitionName", "studyInstanceUid"),
    partition_column=PARTITION_COLUMN,
    columns=(
        template_latest("partitionName", "partitionName"),
        template_latest("studyInstanceUid", "studyinstanceuid"),
        *_OF_STUDY,
        rolled(
            "seriesCount",
            "count_distinct",
            "seriesinstanceuid",
            type_=INT64,
            meaning="series with live instances",
            added=False,
        ),
        _INSTANCE_COUNT,
        _SEQUENCE,
        *_STUDY_SHOWN,
        rolled("modalitiesInStudy", "distinct", "modality"),
        rolled("sopClassesInStudy", "distinct", "sopclassuid"),
        rolled("bodyPartsExamined", "distinct", "bodypartexamined"),
        rolled("manufacturers", "distinct", "manufacturer"),
        rolled("stationNames", "distinct", "stationname"),
        rolled("institutionNames", "distinct", "institutionname"),
        _FRAME_COUNT,
        *_TIMES,
        rolled(
            "acquisitionDurationSeconds",
            "span",
            *_ACQUIRED,
            type_=DOUBLE,
            meaning="seconds from firstAcquisitionTimestamp to lastAcquisitionTimestamp",
        ),
        _FIRST_RECEIVED,
        rolled(
            "wadoRsUri",
            "address",
            "studyinstanceuid",
            meaning="where the service gives the study (WADO-RS); null for the embedded service",
            compared=False,
        ),
        rolled("patientIdCount", "count_distinct", "patientid", type_=INT32),
        _conflicts((*_OF_STUDY, *_STUDY_SHOWN), "study"),
    ),
)
