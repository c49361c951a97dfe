"""Columns that a user adds: a file in TOML names attributes, and the tables get their columns.

    packs = ["ct"]

    [[columns]]
    path = "ImageComments"

    [[columns]]
    path = "KVP"
    level = "series"
    aggregate = "max"
    name = "greatestKvp"

docs/own-columns.md tells what a column may say. A column of `series` or `study` reads one of
`instance`, which is added with it where there is none. The ready packs are such files too, in
`packs` beside this module.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path as File
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
import pyarrow as pa

from dicom_assets.errors import SettingsError
from dicom_assets.schema.attributes import ALL, Path, path
from dicom_assets.schema.columns import (
    DATE,
    DOUBLE,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    Aggregate,
    Column,
    Form,
    Table,
    camel,
    form_of,
    type_of,
)
from dicom_assets.schema.tables import INSTANCE, SERIES, STUDY, rolled

_TypeName: TypeAlias = Literal["string", "int32", "int64", "float64", "date32", "timestamp"]
_TYPES: Final[dict[_TypeName, pa.DataType]] = {
    "string": STRING,
    "int32": INT32,
    "int64": INT64,
    "float64": DOUBLE,
    "date32": DATE,
    "timestamp": TIMESTAMP,
}
_NUMBERS: Final = (INT32, INT64, DOUBLE)
# Which types may be asked for, by VR; all others are text only.
_FITTING: Final = {
    **dict.fromkeys(("IS", "US", "SS", "SL", "UL", "SV"), (STRING, *_NUMBERS)),
    **dict.fromkeys(("DS", "FL", "FD"), (STRING, DOUBLE)),
    "DA": (STRING, DATE),
    "DT": (STRING, TIMESTAMP),
}
_OFFSET: Final = "TimezoneOffsetFromUTC"
# As long as SQL's names; the first is a letter, because engines keep other names for themselves.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")

_Level: TypeAlias = Literal["instance", "series", "study"]
_Group: TypeAlias = Literal["ideographic", "phonetic"]
_Rolled: TypeAlias = Literal[
    "latest", "same", "min", "max", "sum", "mean", "distinct", "count_distinct"
]


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a file says of one column."""

    path: str
    name: str | None = None
    level: _Level = "instance"
    aggregate: _Rolled | None = None
    type: _TypeName | None = None
    group: _Group | None = None
    vr: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    packs: list[str] = []
    columns: list[dict[str, Any]] = []


_FILE_SAYS: Final = 'a file holds `packs = ["ct", …]` and `[[columns]]`, each with a `path`'
_COLUMN_SAYS: Final = (
    "a column has a `path`, and may have a `name`, a `vr`, "
    f"a `level` ({', '.join(get_args(_Level))}), "
    f"an `aggregate` ({', '.join(get_args(_Rolled))}), "
    f"a `type` ({', '.join(_TYPES)}) and a `group` ({', '.join(get_args(_Group))})"
)


@cache
def tables(
    file: str | None = None, catalogue: tuple[Table, ...] = (INSTANCE, SERIES, STUDY)
) -> Mapping[str, Table]:
    """Return the tables of a catalogue by name, with the columns that a file adds; it is read once.

    Raises SettingsError, naming the file, the column and the remedy, for a file that cannot be
    read and for what cannot be a column.
    """
    found = {table.name: table for table in catalogue}
    if file is not None:
        for where, given in _given(file):
            try:
                _add(found, _asked(given))
            except SettingsError as error:
                raise SettingsError(f"DICOM_COLUMNS_FILE {file}, {where}: {error}") from None
    return found


def packs() -> list[str]:
    """Return the names of the ready packs."""
    return sorted(_packs())


# --- reading --------------------------------------------------------------------------------------


def _packs() -> dict[str, Traversable]:
    folder = resources.files(__package__ or "") / "packs"
    return {entry.name.removesuffix(".toml"): entry for entry in folder.iterdir()}


def _given(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is said of each column, packs first, each with where it is said."""
    ready = _packs()
    mine = _read(file, File(file))
    for name in mine.packs:
        if name not in ready:
            raise SettingsError(
                f"DICOM_COLUMNS_FILE {file}: there is no pack {name!r}; there are "
                f"{', '.join(sorted(ready))}"
            )
        yield from _numbered(f"pack {name}, column", _read(file, ready[name]))
    yield from _numbered("column", mine)


def _numbered(what: str, read: _File) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, given in enumerate(read.columns, 1):
        shown = f" ({given['path']})" if "path" in given else ""
        yield f"{what} {number}{shown}", given


def _read(file: str, source: Traversable) -> _File:
    try:
        # Editors on Windows put a mark before the first letter.
        text = source.read_bytes().decode("utf-8-sig")
        return msgspec.convert(tomllib.loads(text), _File)
    except OSError as error:
        why = f"cannot be read ({type(error).__name__}): name a file that Dagster may read"
    except UnicodeDecodeError:
        why = "is not UTF-8: save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        why = f"is not TOML: {error}"
    except msgspec.ValidationError as error:
        why = f"is not a list of columns: {error}; {_FILE_SAYS}"
    raise SettingsError(f"DICOM_COLUMNS_FILE {file} {why}")


def _asked(given: dict[str, Any]) -> _Asked:
    try:
        return msgspec.convert(given, _Asked)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{error}; {_COLUMN_SAYS}") from None


# --- adding ---------------------------------------------------------------------------------------


def _add(found: dict[str, Table], asked: _Asked) -> None:
    """The tables have the column that is asked for, once."""
    _check(asked)
    way = path(asked.path, asked.vr)
    source = _of_instance(found[INSTANCE.name], asked, way)
    _append(found, INSTANCE.name, source)
    if asked.level != INSTANCE.name:
        _append(found, asked.level, _of_rollup(found[INSTANCE.name], asked, way, source))


def _check(asked: _Asked) -> None:
    if asked.name is not None and not _NAME.fullmatch(asked.name):
        raise SettingsError(
            f"{asked.name!r} is no name of a column: take letters of A to Z, digits and _, "
            "a letter first, 128 at most"
        )
    if asked.aggregate and asked.level == INSTANCE.name:
        raise SettingsError(
            f'`aggregate = "{asked.aggregate}"` makes one value of several instances: '
            'give it a `level`, "series" or "study", or leave it out'
        )


def _append(found: dict[str, Table], name: str, column: Column) -> None:
    table = found[name]
    # Delta compares names without case.
    same = next((c for c in table.columns if c.name.lower() == column.name.lower()), None)
    if same is None:
        found[name] = replace(table, columns=(*table.columns, column))
    elif same.name != column.name or _made(same) != _made(column):
        raise SettingsError(
            f"the table {name} has another column {same.name} ({_told(same)}): give this one a "
            "`name` of its own"
        )


def _made(column: Column) -> tuple[object, ...]:
    """Return what decides on the values of a column, in whatever words its paths are written."""
    steps = tuple(p.steps for p in column.paths)
    return column.type, column.form, steps, column.sources, column.aggregate


def _told(column: Column) -> str:
    parts = [p.text for p in column.paths] or [f"instance.{name}" for name in column.sources]
    return ", ".join([str(column.type), *parts, *filter(None, [column.aggregate])])


# --- a column of instance -------------------------------------------------------------------------


def _of_instance(table: Table, asked: _Asked, way: Path) -> Column:
    """Return the column of `instance` that is asked for, or that a rollup reads.

    One that holds the same already is it, unless another is asked for by its name.
    """
    kind = _type(asked, way)
    meaning = f"{way.text} as stored" if kind == STRING else f"{way.text} as {kind}"
    if asked.group:
        meaning = f"{asked.group} group of {way.text}"
    paths = (way, path(_OFFSET)) if kind == TIMESTAMP else (way,)
    form = _form(asked, way, kind)
    column = Column("", kind, meaning, way.attribute, paths, form, added=True)
    held = next((c for c in table.columns if _made(c) == _made(column)), None)
    if held and (asked.name is None or asked.level != table.name):
        return held
    return replace(column, name=_instance_name(table, asked, way))


def _type(asked: _Asked, way: Path) -> pa.DataType:
    """Return the type of a column: what is asked for, else what its VR and its path give."""
    shown, last = way.attribute, way.steps[-1]
    if asked.type is None:
        in_items = any(step.index == ALL for step in way.steps[:-1])
        return type_of(shown, single=not in_items and (last.index != ALL or shown.vm == "1"))
    fitting = _FITTING.get(shown.vr, (STRING,))
    if _TYPES[asked.type] not in fitting:
        names = [name for name, type_ in _TYPES.items() if type_ in fitting]
        raise SettingsError(
            f"an attribute of the VR {shown.vr} cannot be {asked.type}: its `type` may be "
            f"{' or '.join(names)}"
        )
    return _TYPES[asked.type]


def _form(asked: _Asked, way: Path, type_: pa.DataType) -> Form:
    vr = way.attribute.vr
    if asked.group is None:
        return "datetime" if type_ == TIMESTAMP else form_of(way.attribute, type_)
    if vr != "PN":
        raise SettingsError(f"`group` is for names of persons (VR PN), not for {vr}: leave it out")
    return asked.group


def _instance_name(table: Table, asked: _Asked, way: Path) -> str:
    """Return the name in `instance`; what a rollup reads has its path's name, if that is free."""
    if asked.name is None:
        return _path_name(asked, way, str.lower)
    if asked.level == table.name or _is_private(way):
        return asked.name.lower()
    name = _path_name(asked, way, str.lower)
    return asked.name.lower() if name in table.names else name


def _path_name(asked: _Asked, way: Path, worded: Callable[[str], str]) -> str:
    """Return the name that a path gives: its keywords, the index of a value, the group."""
    if _is_private(way):
        raise SettingsError("a private attribute has no keyword to be named by: give it a `name`")
    parts = [worded(step.attribute.keyword) for step in way.steps]
    index = way.steps[-1].index
    return "_".join([*parts, *([] if index == ALL else [str(index)]), *filter(None, [asked.group])])


def _is_private(way: Path) -> bool:
    return any(step.creator for step in way.steps)


# --- a column of series or study ------------------------------------------------------------------


def _of_rollup(instance: Table, asked: _Asked, way: Path, source: Column) -> Column:
    aggregate = asked.aggregate or "latest"
    if aggregate in {"sum", "mean"} and source.type not in _NUMBERS:
        raise SettingsError(
            f"{aggregate} is for numbers, and this is {source.type}: another `aggregate` is needed"
        )
    if aggregate == "distinct" and source.type != STRING:
        raise SettingsError(
            f'distinct is for text, and this is {source.type}: add `type = "string"`, or take '
            "count_distinct"
        )
    name = asked.name or _path_name(asked, way, camel)
    return rolled(
        name, aggregate, source.name, type_=_rolled_type(aggregate, source.type), of=instance
    )


def _rolled_type(aggregate: Aggregate, of: pa.DataType) -> pa.DataType:
    if aggregate == "mean":
        return DOUBLE
    if aggregate == "count_distinct" or (aggregate == "sum" and of != DOUBLE):
        return INT64
    return of
