"""The classes `Column` and `Table`, and the functions in which the catalogue is written.

A column of `instance` names its paths in the header and its form. A column of `series` or `study`
names its columns of `instance` and its aggregate. Forms are parsed in `header`, aggregates are
computed in `tables.aggregates`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from dicom_assets.schema.attributes import ATTRIBUTES, Attribute, Path, path

STRING = pa.string()
INT32 = pa.int32()
INT64 = pa.int64()
DOUBLE = pa.float64()
DATE = pa.date32()
TIMESTAMP = pa.timestamp("us", "UTC")
HEADER_MAP = pa.map_(
    pa.string(), pa.struct([("vr", pa.string()), ("Value", pa.list_(pa.string()))])
)

PARTITION_COLUMN = "partitionName"
# The data partition of a service without data partitions.
DEFAULT_PARTITION = "Microsoft.Default"

# The form of a value, made of the values at a column's paths.
Form: TypeAlias = Literal[
    "text",  # the values as text, joined by a backslash
    "number_text",  # the same for numbers that are kept as text
    "whole",  # a whole number of the column's width
    "real",  # a floating-point number
    "day",  # a date
    "moment",  # paths: DA, TM, offset from UTC -> a moment
    "instant",  # paths: DT, DA, TM, offset from UTC -> the DT, else the DA and TM
    "datetime",  # paths: DT, offset from UTC -> a moment
    "years",  # paths: AS, DA of birth, DA of the study -> an age in years
    "name",  # the first group of person names that is not empty, the alphabetic one usually
    "ideographic",
    "phonetic",
    "code",  # paths: scheme, value, long value, URN value -> SCHEME:VALUE
]
# The aggregate of a value over the live instances of a series or study, in the order of their
# sequence. Null values are left out unless the comment says otherwise.
Aggregate: TypeAlias = Literal[
    "latest",  # the value of the greatest sequence
    "same",  # the same, but null when there are several values
    "max",
    "min",
    "sum",
    "mean",
    "distinct",  # all different values, ascending, joined by a backslash
    "names",  # the same for SOP Class UIDs, each replaced by its name
    "count",  # live instances
    "count_distinct",
    "frames",  # the sum of the numbers of frames, an instance without one being one frame
    "span",  # seconds from the least to the greatest
    "conflicts",  # the number of sources that have several values
    "address",  # of the study in the service (WADO-RS)
]

_TYPES: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(("IS", "US", "SS", "SL"), INT32),
    **dict.fromkeys(("UL", "SV"), INT64),
    **dict.fromkeys(("DS", "FL", "FD"), DOUBLE),
}


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type and meaning, and the source of its values.

    `attribute` is the DICOM attribute (PS3.6) that the column shows, if any. A column of `instance`
    has `paths` to values in the header, and the `form` made of them. A column of a rollup has
    `sources`, which are columns of `instance`, and an `aggregate`. Of several sources the first
    with a value counts, row by row, except for `conflicts`. A column with neither comes from the
    feed or from this project.

    A table of an earlier version may lack an `added` column, which is null until it is filled. A
    difference in a column that is not `compared` does not rewrite a row. A `mark` is a column of
    `sync` for one table. Without it, that table owes no hour.
    """

    name: str
    type: pa.DataType
    meaning: str
    attribute: Attribute | None = None
    paths: tuple[Path, ...] = ()
    form: Form | None = None
    sources: tuple[str, ...] = ()
    aggregate: Aggregate | None = None
    added: bool = False
    compared: bool = True
    mark: bool = False

    @property
    def keyword(self) -> str | None:
        """The keyword of its attribute, None without an attribute or for a private one."""
        return self.attribute.keyword or None if self.attribute else None

    @property
    def known(self) -> dict[str, str]:
        """The DICOM facts of its attribute: keyword, tag, VR, VM, PS3.15 class, and the path."""
        if self.attribute is None:
            return {}
        a = self.attribute
        facts = {"keyword": a.keyword, "tag": a.tag, "vr": a.vr, "vm": a.vm, "ps315": a.ps315}
        if len(self.paths) == 1:
            facts["path"] = self.paths[0].text
        return {f"dicom.{name}": value for name, value in facts.items() if value}

    def field(self) -> "pa.Field[Any]":
        """Return the Arrow field, with the DICOM facts as its metadata."""
        return pa.field(self.name, self.type, metadata=self.known)


# The rows of a table, from live rows of `instance` and the address of the service, if it has one.
Derive: TypeAlias = Callable[[pa.Table, str | None], pa.Table]


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, the key of a row, how it is derived, and where it lies.

    `description` is Markdown for people: what a row is, and what a materialized hour means. `mark`
    is the column of `sync` that tells when the table was brought to an hour, for tables that follow
    the feed. A row of a guarded table is only replaced or deleted by a `sequence` that is not
    smaller.

    A table whose columns have aggregates is derived from `instance`, study by study. Another one
    can be derived so by a function, `derive`, which gets live rows of whole studies in the columns
    `reads` (the key and the sequence of `instance` always among them).

    With `file_rows`, a full data file has so many and is one row group, for engines that limit the
    number of row groups. Such a table has no long texts: its row groups are written from memory.

    `root` and `storage_options` are its own place, where it does not lie with the others.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    description: str = ""
    mark: str = ""
    partition_column: str | None = None
    is_guarded: bool = False
    derive: Derive | None = None
    reads: tuple[str, ...] = ()
    file_rows: int | None = None
    root: str | None = None
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def is_derived(self) -> bool:
        """True when its rows are derived from `instance`, study by study."""
        return self.derive is not None or any(column.aggregate for column in self.columns)

    @property
    def has_studies(self) -> bool:
        """True when a column holds the Study Instance UID."""
        return any(name.lower() == "studyinstanceuid" for name in self.names)

    @property
    def study_column(self) -> str:
        """The name of the column that holds the Study Instance UID."""
        return next(name for name in self.names if name.lower() == "studyinstanceuid")

    @property
    def layout(self) -> list[str]:
        """The names of the columns by which the rows of a file are sorted."""
        return [*self.key[:-1], "sequence"] if self.is_guarded else list(self.key)

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


def type_of(attribute: Attribute, *, single: bool = True) -> pa.DataType:
    """Return the Arrow type of a column of an attribute: of its VR, or text for several values."""
    return _TYPES.get(attribute.vr, STRING) if single else STRING


def form_of(attribute: Attribute, type_: pa.DataType) -> Form:
    """Return the form in which an attribute becomes a value of a type."""
    if type_ == DATE:
        return "day"
    if type_ == STRING:
        numeric = attribute.vr in _TYPES or attribute.vr == "UV"
        return "name" if attribute.vr == "PN" else "number_text" if numeric else "text"
    return "real" if type_ == DOUBLE else "whole"


def manner_of(form: Form, type_: pa.DataType) -> str:
    """Return in which manner a column shows an attribute, for its meaning."""
    if form == "name":
        return "in its first group that is not empty: alphabetic, ideographic, phonetic"
    return "as stored" if type_ == STRING else f"as {type_}"


def attribute(
    keyword: str,
    name: str | None = None,
    type_: pa.DataType | None = None,
    *,
    at: str | None = None,
    added: bool = True,
) -> Column:
    """Return the column of `instance` for an attribute, named after the keyword without `name`.

    `at` is the path if it is not the keyword alone.
    """
    way = path(at or keyword)
    shown = way.attribute if at and "." in at else ATTRIBUTES[keyword]
    kind = type_of(shown) if type_ is None else type_
    form = form_of(shown, kind)
    meaning = f"{at or keyword} {manner_of(form, kind)}"
    return Column(name or keyword.lower(), kind, meaning, shown, (way,), form, added=added)


def template(keyword: str, vr_type: pa.DataType = STRING, name: str | None = None) -> Column:
    """Return a column of the template, which no `instance` table may lack."""
    return attribute(keyword, name, vr_type, added=False)


def derived(name: str, type_: pa.DataType, form: Form, meaning: str, *paths: str) -> Column:
    """Return a column of `instance` that is made of several attributes."""
    return Column(name, type_, meaning, None, tuple(map(path, paths)), form, added=True)


def coded(name: str, sequence: str) -> tuple[Column, Column]:
    """Return two columns of the first item of a code sequence: its code and its meaning."""
    first = f"{sequence}[0]"
    parts = ("CodingSchemeDesignator", "CodeValue", "LongCodeValue", "URNCodeValue")
    paths = tuple(path(f"{first}.{part}") for part in parts)
    shown = ATTRIBUTES[sequence]
    code = Column(name, STRING, f"{first} as SCHEME:VALUE", shown, paths, "code", added=True)
    return code, attribute(sequence, f"{name}_meaning", at=f"{first}.CodeMeaning")


def camel(keyword: str) -> str:
    """Return a keyword as `series` and `study` name it: studyInstanceUid, patientId."""
    name = re.sub(r"UID(?=s?\b|[A-Z])", "Uid", keyword)
    name = re.sub(r"ID(?=s?\b|[A-Z])", "Id", name)
    initial = re.match(r"[A-Z]+(?![a-z])|[A-Z]", name)
    head = initial[0] if initial else ""
    return head.lower() + name[len(head) :]
