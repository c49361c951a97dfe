"""The tables of Data Factory's template, their columns under our names.

Three generations of it wrote `instance`; `series` and `study` stayed the same. A `TableReader`
gives the rows of any generation under our names. Nothing here writes: `migration` takes a table
over, `comparison` compares it with one of ours.

| generation | `instance` has |
|---|---|
| 1 (June 2023) | 13 columns in camel case, `studyDate` a date, the header as text in `metadata` |
| 2 (November 2023) | the same with `filePath` in the place of `metadata` |
| 3 (February 2024) | 36 columns in lower case, `metadata` a map, `metadata_string` its text |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeAlias

import pyarrow as pa

from dicom_assets.errors import ForeignTableError
from dicom_assets.schema import INSTANCE, Column, Table
from dicom_assets.tables.delta.arrow import ints, padded
from dicom_assets.tables.delta.commit import NOTE, arrow_schema
from dicom_assets.tables.delta.handles import open_delta
from dicom_assets.tables.delta.snapshot import Delta, Snapshot, Store
from dicom_assets.tables.delta.table_errors import raise_table_errors
from dicom_assets.tables.upkeep.padded_keys import bare

NEWEST: Final = 3
# Our names and those of the first two generations; Delta compares names without case.
_OLD_NAMES: Final = {
    "studyinstanceuid": "studyInstanceUid",
    "seriesinstanceuid": "seriesInstanceUid",
    "sopinstanceuid": "sopInstanceUid",
    "studydate_formatted": "studyDate",
    "studydescription": "studyDescription",
    "issuerofpatientid": "issuerOfPatientId",
    "patientid": "patientId",
    "patientname": "patientName",
    "sopclassuid": "sopClassUid",
    "filepath": "filePath",
    "metadata_string": "metadata",
    **{name: name for name in ("partitionName", "lastModifiedTimestamp", "modality")},
}
# The first digits of a digest, from one to before another.
StudyPart: TypeAlias = tuple[str, str]
_DIGITS: Final = 4
_DIGESTS: Final = 16**_DIGITS
WHOLE: Final[StudyPart] = ("0" * _DIGITS, "g" * _DIGITS)


def template_columns(table: Table) -> list[Column]:
    """Return the columns that the newest generation of the template gives to a table."""
    ours = ("sequence", "received_timestamp")
    return [column for column in table.columns if not column.added and column.name not in ours]


@dataclass(frozen=True)
class Commit:
    """Another writer's commit: its version, time and engine."""

    version: int
    at: datetime
    engine: str


@dataclass(frozen=True)
class Layout:
    """The columns of a Delta table as columns of ours.

    `generation` is the template's, None once the table has all that a table of ours must have.
    `own_names` gives for our names the table's own. `others` are somebody else's columns, which
    stay; `wrong` are in the place of ours: of another type, or of a name that differs in case.
    """

    table: Table
    generation: int | None
    own_names: Mapping[str, str]
    others: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def is_old(self) -> bool:
        """True when its names are those of the first two generations."""
        return self.generation is not None and self.generation < NEWEST

    @property
    def missing(self) -> list[Column]:
        """The columns of ours that the table does not have."""
        return [column for column in self.table.columns if column.name not in self.expressions]

    @cached_property
    def expressions(self) -> dict[str, str]:
        """The SQL expression for each of our columns that the table has or can give."""
        expressions = {name: f'"{own}"' for name, own in self.own_names.items()}
        if self.is_old:
            formatted = expressions["studydate_formatted"]
            expressions["studydate"] = f"to_char({formatted}, '%Y%m%d')"
        return expressions


def layout_of(table: Table, schema: pa.Schema) -> Layout | None:
    """Return a table's layout; None when it is neither ours nor the template's."""
    is_old = table.name == INSTANCE.name and _OLD_NAMES["studyinstanceuid"] in schema.names
    names = _OLD_NAMES if is_old else {name: name for name in table.names}
    own_names = {ours: theirs for ours, theirs in names.items() if theirs in schema.names}
    others = tuple(name for name in schema.names if name not in own_names.values())
    if not {*table.key, "lastModifiedTimestamp"} <= own_names.keys():
        return None
    taken = {name.lower() for name in table.names}
    wrong = [
        own for n, own in own_names.items() if not schema.field(own).type.equals(table[n].type)
    ]
    wrong += [name for name in others if name.lower() in taken]
    required = {column.name for column in table.columns if not column.added}
    generation = None if required <= own_names.keys() else NEWEST
    if is_old:
        generation = 2 if "filepath" in own_names else 1
    return Layout(table, generation, own_names, others, tuple(wrong))


@dataclass(frozen=True)
class TableReader:
    """One version of a table of the template, or of ours, read under our names."""

    snapshot: Snapshot
    layout: Layout
    delta: Delta

    def query(self, sql: str) -> pa.Table:
        """Return the rows of a query over `r`: the table, each column under our name.

        Keys are without padding.
        """
        uids = self.layout.table.key[1:]
        pairs = self.layout.expressions.items()
        columns = ", ".join(f'{bare(e) if n in uids else e} AS "{n}"' for n, e in pairs)
        return self.snapshot.query(f"WITH r AS (SELECT {columns} FROM t) {sql}")  # noqa: S608 - constants

    def rows(self, columns: Sequence[str], where: str = "true") -> pa.Table:
        """Return some columns of the rows that fulfil a condition; one it lacks is null."""
        schema = self.layout.table.arrow(list(columns))
        names = [f'"{name}"' for name in schema.names if name in self.layout.expressions]
        rows = self.query(f"SELECT {', '.join(names)} FROM r WHERE {where}")  # noqa: S608 - constants and names of the catalogue
        return padded(rows, schema)

    def distinct(self, columns: Sequence[str], where: str, having: str = "true") -> pa.Table:
        """Return the different values of some columns, of groups that fulfil a condition."""
        names = ", ".join(f'"{name}"' for name in columns)
        sql = f"SELECT {names} FROM r WHERE {where} GROUP BY {names} HAVING {having}"  # noqa: S608 - the same
        return padded(self.query(sql), self.layout.table.arrow(list(columns)))

    def count(self, where: str = "true") -> int:
        """Return the number of rows that fulfil a condition."""
        rows = self.query(f"SELECT count(*) AS count FROM r WHERE {where}")  # noqa: S608 - the same
        return ints(rows["count"])[0]

    @property
    def unnumbered(self) -> str:
        """The condition that a row has no sequence."""
        return '"sequence" IS NULL' if "sequence" in self.layout.expressions else "true"

    def within(self, part: StudyPart) -> str:
        """Return the condition that a row is of a part of the studies."""
        return in_part(self.layout.table.key[1], part)

    def newest_of_others(self) -> Commit | None:
        """Return the newest commit that is not this project's, None when there is none."""
        with raise_table_errors(self.snapshot.table, self.snapshot.url):
            history = self.delta.history(100)
        for commit in history:
            if NOTE not in commit and "timestamp" in commit:
                at = datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)
                engine = str(commit.get("engineInfo", "an unnamed engine"))
                return Commit(commit["version"], at, engine)
        return None


def in_part(study: str, part: StudyPart) -> str:
    """Return the condition that a row is of a part of the studies, by the column that names them.

    The parts are by digest, because UIDs say nothing of how many rows they have.
    """
    if part == WHOLE:
        return "true"
    digest = f"substr(md5(coalesce(\"{study}\", '')), 1, {len(part[0])})"
    return f"{digest} >= '{part[0]}' AND {digest} < '{part[1]}'"


def study_parts(rows: int, most: int) -> list[StudyPart]:
    """Return parts of all studies, so that each has about the most rows asked for, or fewer."""
    count = min(max(math.ceil(rows / most), 1), _DIGESTS)
    cuts = [f"{n * _DIGESTS // count:0{_DIGITS}x}" for n in range(1, count)]
    return list(pairwise([WHOLE[0], *cuts, WHOLE[1]]))


def open_reader(store: Store, table: Table) -> TableReader | None:
    """Return the newest version of a table, in whatever form; None when there is none.

    Raises ForeignTableError for a table that neither the template nor this project wrote.
    """
    url, table = store.urls[table.name], store.tables.get(table.name, table)
    with raise_table_errors(table, url):
        delta = open_delta(url, store.options)
        schema = arrow_schema(delta)
    if delta is None:
        return None
    layout = layout_of(table, schema)
    partitions = list(delta.metadata().partition_columns)
    if layout is None or partitions != table.partition_columns:
        raise ForeignTableError(
            f"the Delta table at {url} is neither the {table.name} table of Data Factory's "
            f"template nor of this project: {len(schema.names)} columns, partitioned by "
            f"{', '.join(partitions) or 'nothing'}. Name another root, or another "
            f"DICOM_{table.name.upper()}_TABLE_PATH"
        )
    snapshot = Snapshot(table, url, store.options, delta, delta.version(), store.retention_hours)
    return TableReader(snapshot, layout, delta)
