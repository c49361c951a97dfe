"""The tables under DICOM's keywords: definitions of views, for those who share queries.

Google's export to BigQuery, NCI's Imaging Data Commons and most of DICOM name a column after the
attribute's keyword. A view renames and converts nothing. A column has a keyword for its name when
it shows that attribute, and all of it; what is derived keeps its own name. Where a date or a number
is kept as text too, the text's name ends in `_raw`, because both of them have StudyDate as a date.
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
    """How a database writes a view; `hides_maps` when its tables have no column of that type."""

    title: str
    create: str
    opening: str
    closing: str
    end: str
    hides_maps: bool = False


DIALECTS: Final[Mapping[str, _Dialect]] = {
    "duckdb": _Dialect("DuckDB", "CREATE OR REPLACE VIEW", '"', '"', ";"),
    "spark": _Dialect("Spark SQL", "CREATE OR REPLACE VIEW", "`", "`", ";"),
    # A view is alone in its batch.
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
    written = DIALECTS[dialect]
    views = [_view(tables[name], tables[INSTANCE.name], written) for name in VIEWED]
    return "\n".join([_HEAD.format(title=written.title), *views])


def names(table: Table, instance: Table = INSTANCE) -> dict[str, str]:
    """Return by column what the view calls it: no two alike, whatever the case.

    `instance` is the table that a rollup's columns are made from.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for column in sorted(table.columns, key=lambda column: _claim(column, instance)):
        free = (n for n in _candidates(column, instance) if n.lower() not in taken)
        found[column.name] = next(free)
        taken.add(found[column.name].lower())
    return {name: found[name] for name in table.names}


def _claim(column: Column, instance: Table) -> int:
    """Return who chooses first: own names, then what has a type of its own, then text."""
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
    """Return the keyword of the attribute that a column shows, if it shows one and all of it."""
    if column.aggregate in {"latest", "same"}:
        return _keyword(instance[column.sources[0]], instance)
    if len(column.paths) != 1 or len(column.paths[0].steps) != 1:
        return None
    return column.keyword if column.paths[0].steps[0].index == ALL else None


def _view(table: Table, instance: Table, dialect: _Dialect) -> str:
    called = names(table, instance)
    shown = [c for c in table.columns if not (dialect.hides_maps and pa.types.is_map(c.type))]
    lines = ",\n".join(f"  {_selected(c.name, called[c.name], dialect)}" for c in shown)
    view, source = _quoted(f"dicom_{table.name}", dialect), _quoted(table.name, dialect)
    return f"{dialect.create} {view} AS\nSELECT\n{lines}\nFROM {source}{dialect.end}\n"


def _selected(name: str, called: str, dialect: _Dialect) -> str:
    quoted = _quoted(name, dialect)
    return quoted if called == name else f"{quoted} AS {_quoted(called, dialect)}"


def _quoted(name: str, dialect: _Dialect) -> str:
    # Names are letters, digits and underscores (`added`): a quote cannot be in one.
    return f"{dialect.opening}{name}{dialect.closing}"
