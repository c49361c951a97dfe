"""SQL views of the tables with DICOM's keywords as column names, so that queries can be shared.

Google's export to BigQuery, NCI's Imaging Data Commons and most of DICOM name a column after the
attribute's keyword. A view renames columns and converts nothing. A column gets the keyword if it
shows that attribute, and all of it. Derived columns keep their names. Where a date or a number is
kept as text too, the name of the text ends in `_raw`, because BigQuery's export and the Imaging
Data Commons have StudyDate as a date.
"""

from collections.abc import Mapping
from itertools import chain, count
from typing import Final, NamedTuple

import pyarrow as pa

from dicom_assets.schema.attributes import ALL
from dicom_assets.schema.columns import STRING, Column, Table
from dicom_assets.schema.tables import INSTANCE, SERIES, STUDY

VIEWED: Final = (INSTANCE.name, SERIES.name, STUDY.name)


class _Dialect(NamedTuple):
    """The syntax of a view in one database. `hides_maps` leaves out columns of the type map."""

    title: str
    create: str
    opening: str
    closing: str
    end: str
    hides_maps: bool = False

    def quoted(self, name: str) -> str:
        # Names are letters, digits and underscores (`added`), so none holds a quote.
        return f"{self.opening}{name}{self.closing}"


DIALECTS: Final[Mapping[str, _Dialect]] = {
    "duckdb": _Dialect("DuckDB", "CREATE OR REPLACE VIEW", '"', '"', ";"),
    "spark": _Dialect("Spark SQL", "CREATE OR REPLACE VIEW", "`", "`", ";"),
    # CREATE VIEW must be the only statement of its batch.
    "tsql": _Dialect("T-SQL", "CREATE OR ALTER VIEW", "[", "]", ";\nGO", hides_maps=True),
}
_HEAD: Final = """\
-- The tables `instance`, `series` and `study` under DICOM's keywords, for {title}. The views
-- convert nothing: StudyDate and PatientBirthDate are dates, and their text as stored is
-- StudyDate_raw and PatientBirthDate_raw; other dates and all times are text as stored. Several
-- values are one text, joined by a backslash.
"""


def definitions(tables: Mapping[str, Table], dialect: str = "duckdb") -> str:
    """Return the SQL that creates the views `dicom_instance`, `dicom_series` and `dicom_study`.

    Raises KeyError for a dialect that is not in DIALECTS.
    """
    syntax = DIALECTS[dialect]
    views = [_view(tables[name], tables[INSTANCE.name], syntax) for name in VIEWED]
    return "\n".join([_HEAD.format(title=syntax.title), *views])


def names(table: Table, instance: Table = INSTANCE) -> dict[str, str]:
    """Return the name in the view by column, unique also without regard to case.

    `instance` is the table that a rollup's columns are made from.
    """
    keywords = {column.name: _keyword(column, instance) for column in table.columns}
    plain = [column for column in table.columns if not keywords[column.name]]
    shown = [column for column in table.columns if keywords[column.name]]
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    # Columns without a keyword choose first, then typed ones, then text.
    for column in [*plain, *sorted(shown, key=lambda column: column.type == STRING)]:
        first = keywords[column.name] or column.name
        raw = (f"{first}_raw{n if n > 1 else ''}" for n in count(1))
        free = (name for name in chain([first, column.name], raw) if name.lower() not in taken)
        renamed[column.name] = next(free)
        taken.add(renamed[column.name].lower())
    return {name: renamed[name] for name in table.names}


def _keyword(column: Column, instance: Table) -> str | None:
    """Return the keyword of the attribute that a column shows completely, None without one."""
    if column.aggregate in {"latest", "same"}:
        return _keyword(instance[column.sources[0]], instance)
    if len(column.paths) != 1 or len(column.paths[0].steps) != 1:
        return None
    return column.keyword if column.paths[0].steps[0].index == ALL else None


def _view(table: Table, instance: Table, dialect: _Dialect) -> str:
    renamed = names(table, instance)
    shown = [c for c in table.columns if not (dialect.hides_maps and pa.types.is_map(c.type))]
    lines = []
    for name in (column.name for column in shown):
        alias = "" if renamed[name] == name else f" AS {dialect.quoted(renamed[name])}"
        lines.append(f"  {dialect.quoted(name)}{alias}")
    view, source = dialect.quoted(f"dicom_{table.name}"), dialect.quoted(table.name)
    selected = ",\n".join(lines)
    return f"{dialect.create} {view} AS\nSELECT\n{selected}\nFROM {source}{dialect.end}\n"
