"""The files that are generated: pages of `docs/reference`, and the names of PS3.6's UIDs.

Each is made from the code or the tests that define its content. `dicom-assets docs` writes them,
and a test fails when one is stale.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from dicom_assets.defs.check_words import ReaderRole
from dicom_assets.defs.checks.service import SERVICE_CHECKS
from dicom_assets.defs.checks.tables import TABLE_CHECKS
from dicom_assets.defs.checks.upkeep import UPKEEP_CHECKS
from dicom_assets.defs.descriptions import column_lineage
from dicom_assets.defs.names import Names
from dicom_assets.defs.schedules.check_jobs import check_jobs
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Column, Table, added, views
from dicom_assets.schema.attributes import UID_NAMES
from dicom_assets.schema.tables import rolled
from dicom_assets.settings import setting_fields
from dicom_assets.tables.catalogue import TABLES

_NOTHING = "\N{EN DASH}"
_CONFIGURATION: Final = """\
# Configuration

The environment, read once at start. Settings that contradict one another are refused at start, with
the remedy. `dicom-assets check` tests the settings where they are used
([its lines](../operate/check.md))."""
_FAULTS: Final = """\
# Faults of the service

Each line is a test that injects the fault over a real connection. A fault that does not pass makes
the run red. The message names the window, the number of attempts and the remedy. Nothing is half
done then, and running again is safe."""
_COLUMNS: Final = """\
# Columns

Every column of every table, in order. The columns of `instance`, `series` and `study` begin with
those of the Azure Data Factory template and keep its names, order and types. This project's own
columns come next, [yours](../use/own-columns.md) last: `DICOM_COLUMNS_FILE` names a list of
attributes and of ready packs ({packs}).

- **type**: `date` is a calendar day, `timestamp` is in UTC with microseconds, `int32` is Delta's
  integer, `int64` its long. No column is a list: several values are one text, joined by a
  backslash. Of attributes, a day before 1582-10-15 and a moment before 1900 are null and counted,
  because Spark 3 would fail on the whole column. The column with the text keeps them.
- **keyword**, **tag**, **VR**, **VM**: the attribute that the column shows (PS3.6). The tables'
  own schema has the same (`dicom.keyword`, `dicom.tag`, …, in the metadata of its fields).
  [Views](views.sql) have keywords for names. `dicom-assets view` prints them with your columns.
- **made from**: `header` is the attribute itself, in the header (DICOM JSON) of the instance.
  Otherwise the paths are given. In `series` and `study` it is columns of `instance`, and the rule
  by which their live rows make the value:
  *latest*, the value of the row with the greatest `sequence` that has one;
  *same*, likewise, and null when there are several;
  *distinct*, all different values, ascending;
  *min*, *max*, *count*, *count_distinct*, as in SQL.
  The others are explained in their row. Of several columns the first that has a value counts,
  row by row.
- **PS3.15**: the action that the Basic Profile (PS3.15, Table E.1-1) asks for before data is
  shared, without any option. **Nothing here does it**: a reader of the tables sees the patients'
  identities. A column made of several attributes has the letters of all.

{letters}

`metadata` and `metadata_string` hold the whole header, so all of it applies to them. The feed's own
columns have no letter, though times and `filepath` may identify somebody too."""
_LETTERS: Final = (
    ("X", "remove"),
    ("Z", "empty, or a dummy value"),
    ("D", "a dummy value"),
    ("U", "another UID, the same one everywhere"),
    ("X/Z, X/D, Z/D, X/Z/D", "the first that the kind of object allows"),
    ("none", "not in that table; free text may identify somebody all the same"),
)
_NO_CLASS: Final = "-"
_FEW: Final = 3
# Aggregates whose results show values of their sources, and those that the page explains once.
_SHOWING: Final = {"latest", "same", "min", "max", "distinct", "address"}
_EXPLAINED: Final = {"latest", "same", "min", "max", "distinct", "count_distinct"}
# Forms of one attribute's values, which the meaning names first.
_PLAIN: Final = {"text", "number_text", "whole", "real", "day", "name"}
_CHECKS: Final = """\
# Checks

Asset checks run by themselves, and each has one reader: *service* is the PACS administrator,
*platform* the data engineer, *data* the researcher. The numbers of a result are in its metadata,
never a patient's value or a UID. A check that could not ask the service says so and has not
passed. Checks that ask the service stand on `dicom_service`, all others on `dicom_quality`,
downstream of the tables, because they read many hours or whole tables. They have jobs and schedules
of their own ([why](../decisions/checks-on-the-service.md)). No check takes a slot of the pool.
[Alerts](../operate/alerts.md) tell the reader when one fails.

**An error that would spread stops the run.** The run is red before `series` or `study` are derived
when an instance of a touched study has several rows. It is red, too, when the tables belong to
another archive, a table is damaged, or a column has another type. The message says what to do.

**The freshness sign on the four assets** is Dagster's FreshnessPolicy, made of `DICOM_SCHEDULE` and
`DICOM_DELAY_MINUTES`: it warns when one tick brought no hour, and fails when two did not. It takes
the materialization of *any* hour for a fresh one, so an old hour that is run again makes it green.
Rely on the check `freshness`. Where `DICOM_END_TIME` is set, or the embedded service is used, no
hours are to come, and there is no such sign."""
_READERS: Final = {
    ReaderRole.SERVICE: "For the PACS administrator",
    ReaderRole.PLATFORM: "For the data engineer",
    ReaderRole.DATA: "For the researcher",
}
_RUNS: Final = {look.runs: f"`{look.job}`: `{look.cron}`" for look in check_jobs(Names())}
_VIEWS: Final = """\
-- Generated by `make docs` from the code: change it there. With your own columns, and for Spark SQL
-- and T-SQL: dicom-assets view --help.
"""


def configuration_page() -> str:
    """Return the settings as a Markdown table: variable, default, meaning, Data Factory's name."""
    rows = [
        (f"`{m['variable']}`", m["shown"], m["meaning"], m["template"] or _NOTHING)
        for m in (field.metadata for field in setting_fields())
    ]
    table = _grid(("variable", "default", "meaning", "Data Factory's name"), rows)
    return f"{_CONFIGURATION}\n\n{table}"


def columns_page() -> str:
    """Return every column of every table as Markdown."""
    packs = ", ".join(f"`{name}`" for name in added.packs())
    letters = _grid(("letter", "what is asked"), _LETTERS)
    pages = [_columns_of(table) for table in TABLES]
    return "\n\n".join([_COLUMNS.format(packs=packs, letters=letters), *pages])


def _columns_of(table: Table) -> str:
    rows = [
        {
            "column": f"`{column.name}`",
            "type": _type(column),
            "keyword": column.keyword or _NOTHING,
            "tag": f"({a.tag[:4]},{a.tag[4:]})" if a else _NOTHING,
            "VR": a.vr if a else _NOTHING,
            "VM": a.vm if a else _NOTHING,
            "PS3.15": _class(column),
            "made from": _made_from(table, column),
            "meaning": _meaning(column),
        }
        for column, a in ((column, column.attribute) for column in table.columns)
    ]
    key = ", ".join(f"`{name}`" for name in table.key)
    head = f"## `{table.name}`\n\nKey: {key}.\n\n"
    if table.name not in {INSTANCE.name, SERIES.name, STUDY.name}:
        return f"{head}{_without_empty(rows)}"
    theirs = table.names.index("sequence")  # up to here the columns are the template's
    return (
        f"{head}### The template's columns of `{table.name}`\n\n{_without_empty(rows[:theirs])}\n\n"
        f"### The columns that `{table.name}` has beside them\n\n{_without_empty(rows[theirs:])}"
    )


def _type(column: Column) -> str:
    """Return a column's type without its parameters, which all columns of the type share."""
    return re.sub(r"\d*[\[<].*", "", str(column.type))


def _class(column: Column) -> str:
    """Return the PS3.15 class of what a column shows, or the classes of what it is made of."""
    if column.attribute:
        return "none" if column.attribute.ps315 == _NO_CLASS else column.attribute.ps315
    sources = column.sources if column.aggregate in _SHOWING else ()
    attributes = [p.attribute for c in (column, *(INSTANCE[s] for s in sources)) for p in c.paths]
    classes = dict.fromkeys(a.ps315 for a in attributes if a.ps315 != _NO_CLASS)
    return ", ".join(classes) or _NOTHING


def _made_from(table: Table, column: Column) -> str:
    if column.sources:
        many = len(column.sources) > _FEW
        names = ", ".join(f"`{source}`" for source in column.sources)
        return f"{column.aggregate}: {f'{len(column.sources)} columns' if many else names}"
    origins = column_lineage(table, Names()).deps_by_column.get(column.name, ())
    log = [of.column_name for of in origins if of.asset_key.path[-1] == CHANGE.name]
    if log or not column.paths:
        return ", ".join(f"`{CHANGE.name}.{name}`" for name in log) or _NOTHING
    texts = [path.text for path in column.paths]
    return "header" if texts == [column.keyword] else f"header: {_joined(texts)}"


def _joined(texts: list[str]) -> str:
    """Return paths as a list, with a sequence that is common to all of them in front."""
    first, *others = dict.fromkeys(text.rpartition(".")[0] for text in texts)
    if others or not first or len(texts) == 1:
        return ", ".join(texts)
    return f"{first}: " + ", ".join(text.rpartition(".")[2] for text in texts)


def _meaning(column: Column) -> str:
    """Return a column's meaning without the words that its other cells repeat."""
    if column.aggregate in _EXPLAINED:
        usual = rolled(column.name, column.aggregate, *column.sources).meaning
        return _NOTHING if column.meaning == usual else column.meaning
    if column.form in _PLAIN:
        return column.meaning.removeprefix(f"{column.paths[0].text} ").replace(
            str(column.type), _type(column)
        )
    return column.meaning


def checks_page() -> str:
    """Return every asset check as Markdown: reader, place, time, meaning, and what to do."""
    every = [*SERVICE_CHECKS, *UPKEEP_CHECKS, *TABLE_CHECKS]
    rows = [(f"`{c.name}`", c.reader, _RUNS[c.runs]) for c in every]
    parts = [_CHECKS, _grid(("check", "reader", "runs (UTC)"), rows)]
    for reader, title in _READERS.items():
        parts.append(f"## {title}")
        for c in (c for c in every if c.reader is reader):
            parts += [f"### `{c.name}`", c.means, f"*When it fails:* {c.remedy}"]
    return "\n\n".join(parts)


def _without_empty(rows: list[dict[str, str]]) -> str:
    """Return rows as a table, without empty columns."""
    titles = [title for title in rows[0] if any(row[title] != _NOTHING for row in rows)]
    return _grid(titles, ([row[title] for title in titles] for row in rows))


def _grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def faults_page(folder: Path) -> str:
    """Return the faults that the tests below a folder inject, as a Markdown table."""
    tests = sorted(
        (match[1].upper(), match[2].replace("_", " "), ast.get_docstring(function) or "")
        for path in folder.rglob("test_*.py")
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef)
        if (match := re.fullmatch(r"test_(f\d\d)_(\w+)", function.name))
    )
    rows = ((f"**{fault}**", fact, " ".join(text.split())) for fault, fact, text in tests)
    return f"{_FAULTS}\n\n{_grid(('fault', 'what holds', 'what happens, and what is seen'), rows)}"


def uid_names_file() -> str:
    """Return the UIDs of PS3.6, Table A-1, with their names, as lines with a tab between them."""
    from pydicom._uid_dict import UID_dictionary

    return "".join(f"{uid}\t{of_uid[0]}\n" for uid, of_uid in UID_dictionary.items())


def generated_pages(root: Path) -> dict[Path, str]:
    """Return the content of each generated file of a checkout, by path."""
    pages = {
        "configuration.md": configuration_page(),
        "checks.md": checks_page(),
        "columns.md": columns_page(),
        "faults.md": faults_page(root / "dicom_assets_tests"),
    }
    folder = root / "docs" / "reference"
    note = "<!-- Generated by `make docs` from the code: change it there. -->\n"
    return {folder / name: f"{note}\n{page}\n" for name, page in pages.items()} | {
        folder / "views.sql": f"{_VIEWS}{views.definitions(added.tables())}",
        root / "dicom_assets" / "schema" / UID_NAMES: uid_names_file(),
    }


def write_pages(root: Path) -> list[Path]:
    """Write the stale pages of a checkout anew, and return their paths."""
    stale = {
        path: text
        for path, text in generated_pages(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(stale)


@click.command()
def docs() -> None:
    """Write the generated pages of the documentation anew, in a checkout."""
    changed = write_pages(Path.cwd())
    click.echo("\n".join(f"wrote {path}" for path in changed) or "all pages are up to date")
