"""SQL views of the tables with DICOM's keywords as column names, so that queries can be shared.

Google's export to BigQuery, NCI's Imaging Data Commons and most of DICOM name a column after the
attribute's keyword. A view renames columns and converts nothing. A column gets the keyword if it
shows that attribute, and all of it. Derived columns keep their names. Where a date or a number is
kept as text too, the name of the text ends in `_raw`, because BigQuery's export and the Imaging
Data Commons have StudyDate as a date.
"""

from collections.abc import Iterator, Mapping
from itertools import count
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
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    for column in sorted(table.columns, key=lambda column: _rank(column, instance)):
        free = (n for n in _candidates(column, instance) if n.lower() not in taken)
        renamed[column.name] = next(free)
        taken.add(renamed[column.name].lower())
    return {name: renamed[name] for name in table.names}


def _rank(column: Column, instance: Table) -> int:
    """Return the order of choosing a name: columns without keyword, then typed ones, then text."""
    if _keyword(column, instance) is None:
        return 0
    return 2 if column.type == STRING else 1


def _candidates(column: Column, instance: Table) -> Iterator[str]:
    keyword = _keyword(column, instance)
    if keyword:
        yield keyword
    yield column.name
    yield from (f"{keyword or column.name}_raw{n if n > 1 else ''}" for n in count(1))


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
    lines = ",\n".join(f"  {_selected(c.name, renamed[c.name], dialect)}" for c in shown)
    view, source = _quoted(f"dicom_{table.name}", dialect), _quoted(table.name, dialect)
    return f"{dialect.create} {view} AS\nSELECT\n{lines}\nFROM {source}{dialect.end}\n"


def _selected(name: str, renamed: str, dialect: _Dialect) -> str:
    quoted = _quoted(name, dialect)
    return quoted if renamed == name else f"{quoted} AS {_quoted(renamed, dialect)}"


def _quoted(name: str, dialect: _Dialect) -> str:
    # Names are letters, digits and underscores (`added`), so none holds a quote.
    return f"{dialect.opening}{name}{dialect.closing}"
