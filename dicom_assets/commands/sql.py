"""`dicom-assets sql`: a query on the tables, by DuckDB, with the identity and columns of settings.

Tables and views stand under their names. A column of the header or of a patient is in them only if
the query names it, so that `SELECT *` can be shown to others. The questions are those of
docs/use/questions.md, which is their home.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from dicom_assets.commands.progress import working
from dicom_assets.schema import INSTANCE, Table, views
from dicom_assets.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from dicom_assets.tables.delta.snapshot import Store

_SHOWN_ROWS: Final = 100
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_QUESTION: Final = re.compile(
    r"^### (?P<title>.*?)$(?:(?!^### ).)*?--question (?P<name>[a-z-]+)`"
    r".*?^```sql\n(?P<sql>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_HEADERS: Final = ("metadata", "metadata_string")
_PATIENT_GROUP: Final = "0010"
# DuckDB's errors about the words of a query. Others may quote values of a row.
_ABOUT_THE_QUERY: Final = ("BinderException", "CatalogException", "ParserException")


class Question(NamedTuple):
    """A question of the page: its title and its SQL."""

    title: str
    sql: str


@click.command()
@click.argument("query", required=False)
@click.option("--question", metavar="NAME", help="Ask one of the nineteen questions by its name.")
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Write the rows to a new CSV file."
)
@click.option(
    "--parquet", "parquet_file", type=click.Path(path_type=Path), help="Write a new Parquet file."
)
def sql(
    query: str | None, question: str | None, csv_file: Path | None, parquet_file: Path | None
) -> None:
    """Ask the tables in SQL, or one of nineteen questions by name.

    The tables are change, sync, instance, series, study and rejected, the views dicom_instance,
    dicom_series and dicom_study. Without a query the names of the questions are listed, and -
    reads a query from standard input.
    """
    asked = questions()
    if query is None and question is None:
        for name, one in asked.items():
            click.echo(f"{name:<22} {one.title}")
        return
    if query is not None and question is not None:
        raise click.UsageError("a query or a --question, not both")
    if csv_file and parquet_file:
        raise click.UsageError("--csv or --parquet, not both")
    if question is not None and question not in asked:
        raise click.BadParameter(f"one of {', '.join(asked)}", param_hint="--question")
    text = asked[question].sql if question else query or ""
    text = sys.stdin.read() if text == "-" else text
    with working("opening the tables") as progress:
        from dicom_assets.commands.find.studies import opened

        store = opened(Settings.from_environment(complete=False))
        with _answer(store, text, progress) as rows:
            if csv_file:
                _write(csv_file, rows, _csv)
            elif parquet_file:
                _write(parquet_file, rows, _parquet)
            else:
                _print(rows)


def questions() -> Mapping[str, Question]:
    """Return the questions of the page by name, in its order."""
    beside = Path(__file__).parents[1] / "questions.md"  # in a wheel
    page = beside if beside.exists() else beside.parents[1] / "docs" / "use" / "questions.md"
    found = _QUESTION.finditer(page.read_text(encoding="utf-8"))
    return {one["name"]: Question(one["title"], one["sql"]) for one in found}


def hidden_columns(table: Table, instance: Table = INSTANCE) -> set[str]:
    """Return the columns that hold a header, a value of a patient, or a person's name."""
    hidden = set()
    for column in table.columns:
        sources = [
            instance[name] for name in column.sources if column.aggregate != "count_distinct"
        ]
        for one in (column, *sources):
            attributes = [one.attribute, *(path.steps[-1].attribute for path in one.paths)]
            if one.name in _HEADERS or any(
                a and (a.tag.startswith(_PATIENT_GROUP) or a.vr == "PN") for a in attributes
            ):
                hidden.add(column.name)
    return hidden


@contextmanager
def _answer(
    store: "Store", query: str, progress: Callable[..., None]
) -> Iterator[pa.RecordBatchReader]:
    import duckdb

    with duckdb.connect() as connection:
        # No extension comes from the network behind the back of a user.
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET TimeZone = 'UTC'")
        _register(connection, store, query)
        progress("asking")
        try:
            relation = connection.sql(query)
            if relation is None:
                raise click.ClickException("the query gives no rows: SELECT, FROM or DESCRIBE does")
            yield relation.to_arrow_reader(10_000)
        except duckdb.Error as error:
            kind = type(error).__name__
            about = str(error).splitlines()[0] if kind in _ABOUT_THE_QUERY else kind
            raise click.ClickException(f"DuckDB does not answer the query: {about}") from None


def _register(connection: "duckdb.DuckDBPyConnection", store: "Store", query: str) -> None:
    named = {word.lower() for word in re.findall(r"\w+", query)}
    instance = store.tables[INSTANCE.name]
    for name, table in store.tables.items():
        snapshot = store.open(table)
        if snapshot.delta is None:
            continue
        # A data set, because a stream (`scan`) is empty in the second query.
        connection.register(f"_{name}", snapshot.delta.to_pyarrow_dataset())
        renamed = views.names(table, instance)
        hidden = hidden_columns(table, instance)
        shown = [
            column
            for column in table.names
            if column in snapshot.column_names
            and (column not in hidden or {column.lower(), renamed[column].lower()} & named)
        ]
        plain = ", ".join(f'"{column}"' for column in shown)
        connection.execute(f'CREATE VIEW "{name}" AS SELECT {plain} FROM "_{name}"')  # noqa: S608 - names of columns
        if name in views.VIEWED:
            keywords = ", ".join(f'"{column}" AS "{renamed[column]}"' for column in shown)
            connection.execute(f'CREATE VIEW "dicom_{name}" AS SELECT {keywords} FROM "_{name}"')  # noqa: S608 - the same


def _print(rows: pa.RecordBatchReader) -> None:
    """Print rows as a table, or in a pipe as lines with tabs."""
    console = Console()
    if not console.is_terminal:
        click.echo("\t".join(rows.schema.names))
        for batch in rows:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                click.echo("\t".join(map(_text, row)))
        return
    table = rows.read_all()
    grid = Grid(*map(escape, rows.schema.names))
    shown = table.slice(0, _SHOWN_ROWS)
    for row in zip(*(column.to_pylist() for column in shown.columns), strict=True):
        grid.add_row(*(escape(_text(value)) for value in row))
    console.print(grid)
    if (left := table.num_rows - _SHOWN_ROWS) > 0:
        console.print(f"and {left:,} more rows: --csv or --parquet writes all")


def _text(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _write(path: Path, rows: pa.RecordBatchReader, write: Callable[..., int]) -> None:
    """Write rows to a file that was not there, for its owner alone."""
    try:
        path.touch(0o600, exist_ok=False)
    except FileExistsError:
        raise click.ClickException(f"{path} is there, and is not overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    is_whole = False
    try:
        count = write(path, rows)
        is_whole = True
    finally:
        if not is_whole:
            path.unlink()
    click.echo(f"{count:,} rows → {path}")


def _csv(path: Path, rows: pa.RecordBatchReader) -> int:
    """Write texts in quotes, numbers without; no cell of text is taken for a formula."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(rows.schema.names)
        for batch in rows:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                writer.writerow(map(_cell, row))
            count += batch.num_rows
    return count


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _parquet(path: Path, rows: pa.RecordBatchReader) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(path, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            count += batch.num_rows
    return count
