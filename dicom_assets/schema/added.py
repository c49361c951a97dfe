"""Columns that a user adds: a TOML file names attributes, and the tables get their columns.

    packs = ["ct"]

    [[columns]]
    path = "ImageComments"

    [[columns]]
    path = "KVP"
    level = "series"
    aggregate = "max"
    name = "greatestKvp"

docs/use/own-columns.md describes the fields of a column. A column of `series` or `study` reads one
of `instance`, which is added too if it is missing. The ready packs are such files in the folder
`packs`.
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
    Column,
    Form,
    Table,
    camel,
    form_of,
    manner_of,
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
# The allowed types by VR. All other VRs are text only.
_FITTING: Final = {
    **dict.fromkeys(("IS", "US", "SS", "SL", "UL", "SV"), (STRING, *_NUMBERS)),
    **dict.fromkeys(("DS", "FL", "FD"), (STRING, DOUBLE)),
    "DA": (STRING, DATE),
    "DT": (STRING, TIMESTAMP),
}
# At most as long as SQL's names. A letter first, because engines reserve other names.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")

_Level: TypeAlias = Literal["instance", "series", "study"]
_Group: TypeAlias = Literal["ideographic", "phonetic"]
_Rolled: TypeAlias = Literal[
    "latest", "same", "min", "max", "sum", "mean", "distinct", "count_distinct"
]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """The entry of one column in a file."""

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


_FILE_HELP: Final = 'a file holds `packs = ["ct", …]` and `[[columns]]`, each with a `path`'
_COLUMN_HELP: Final = (
    "a column has a `path`, and may have a `name`, a `vr`, "
    f"a `level` ({', '.join(get_args(_Level))}), "
    f"an `aggregate` ({', '.join(get_args(_Rolled))}), "
    f"a `type` ({', '.join(_TYPES)}) and a `group` ({', '.join(get_args(_Group))})"
)


@cache
def tables(
    file: str | None = None, catalogue: tuple[Table, ...] = (INSTANCE, SERIES, STUDY)
) -> Mapping[str, Table]:
    """Return the tables of a catalogue by name, with the columns of a file added.

    Each file is read once per catalogue. Raises SettingsError with the file, the column and the
    remedy if the file is unreadable, or an entry cannot be a column.
    """
    by_name = {table.name: table for table in catalogue}
    if file is not None:
        for where, fields in _entries(file):
            try:
                _add(by_name, msgspec.convert(fields, _Entry))
            except msgspec.ValidationError as error:
                why = f"{error}; {_COLUMN_HELP}"
                raise SettingsError(f"DICOM_COLUMNS_FILE {file}, {where}: {why}") from None
            except SettingsError as error:
                raise SettingsError(f"DICOM_COLUMNS_FILE {file}, {where}: {error}") from None
    return by_name


def packs() -> dict[str, Traversable]:
    """Return the files of the ready packs by name, in the order of the names."""
    files = (resources.files(__package__ or "") / "packs").iterdir()
    return dict(sorted((file.name.removesuffix(".toml"), file) for file in files))


def _entries(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the fields of each column with their place in the files, packs first."""
    ready = packs()
    own = _read(file, File(file))
    for name in own.packs:
        if name not in ready:
            raise SettingsError(
                f"DICOM_COLUMNS_FILE {file}: there is no pack {name!r}; there are "
                f"{', '.join(ready)}"
            )
        yield from _numbered(f"pack {name}, column", _read(file, ready[name]))
    yield from _numbered("column", own)


def _numbered(kind: str, file: _File) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, fields in enumerate(file.columns, 1):
        shown = f" ({fields['path']})" if "path" in fields else ""
        yield f"{kind} {number}{shown}", fields


def _read(file: str, source: Traversable) -> _File:
    try:
        # Editors on Windows write a byte order mark first.
        text = source.read_bytes().decode("utf-8-sig")
        return msgspec.convert(tomllib.loads(text), _File)
    except OSError as error:
        why = f"cannot be read ({type(error).__name__}): give a file that Dagster may read"
    except UnicodeDecodeError:
        why = "is not UTF-8: save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        why = f"is not TOML: {error}"
    except msgspec.ValidationError as error:
        why = f"is not a list of columns: {error}; {_FILE_HELP}"
    raise SettingsError(f"DICOM_COLUMNS_FILE {file} {why}")


def _add(by_name: dict[str, Table], entry: _Entry) -> None:
    """Add the column of an entry to its table, and its source to `instance`, unless they exist."""
    if entry.name is not None and not _NAME.fullmatch(entry.name):
        raise SettingsError(
            f"{entry.name!r} is not a name for a column: take letters of A to Z, digits and _, "
            "a letter first, 128 at most"
        )
    if entry.aggregate and entry.level == INSTANCE.name:
        raise SettingsError(
            f'`aggregate = "{entry.aggregate}"` makes one value of several instances: '
            'give the column a `level`, "series" or "study", or leave out the aggregate'
        )
    attribute_path = path(entry.path, entry.vr)
    source = _of_instance(by_name[INSTANCE.name], entry, attribute_path)
    _append(by_name, INSTANCE.name, source)
    if entry.level != INSTANCE.name:
        instance = by_name[INSTANCE.name]
        _append(by_name, entry.level, _of_rollup(instance, entry, attribute_path, source))


def _append(by_name: dict[str, Table], name: str, column: Column) -> None:
    table = by_name[name]
    # Delta compares names without case.
    same = next((c for c in table.columns if c.name.lower() == column.name.lower()), None)
    if same is None:
        by_name[name] = replace(table, columns=(*table.columns, column))
    elif same.name != column.name or _origin(same) != _origin(column):
        sources = [p.text for p in same.paths] or [f"instance.{source}" for source in same.sources]
        shown = ", ".join([str(same.type), *sources, *filter(None, [same.aggregate])])
        raise SettingsError(
            f"the table {name} has another column {same.name} ({shown}): give this one a `name` of "
            "its own"
        )


def _origin(column: Column) -> tuple[object, ...]:
    """Return all that determines the values of a column, however its paths are written."""
    steps = tuple(p.steps for p in column.paths)
    return column.type, column.form, steps, column.sources, column.aggregate


def _of_instance(table: Table, entry: _Entry, source: Path) -> Column:
    """Return the column of `instance` for an entry, or for the rollup of an entry.

    A column with the same values is reused, unless the entry is for `instance` and has a name.
    """
    kind = _type(entry, source)
    form: Form = "datetime" if kind == TIMESTAMP else form_of(source.attribute, kind)
    meaning = f"{source.text} {manner_of(form, kind)}"
    if entry.group:
        vr = source.attribute.vr
        if vr != "PN":
            raise SettingsError(
                f"`group` is for names of persons (VR PN), not for {vr}: leave it out"
            )
        meaning, form = f"{entry.group} group of {source.text}", entry.group
    paths = (source, path("TimezoneOffsetFromUTC")) if kind == TIMESTAMP else (source,)
    column = Column("", kind, meaning, source.attribute, paths, form, added=True)
    same = next((c for c in table.columns if _origin(c) == _origin(column)), None)
    if same and (entry.name is None or entry.level != table.name):
        return same
    return replace(column, name=_instance_name(table, entry, source))


def _type(entry: _Entry, source: Path) -> pa.DataType:
    """Return the type of a column: that of the entry, otherwise that of its VR and its path."""
    shown, last = source.attribute, source.steps[-1]
    if entry.type is None:
        in_items = any(step.index == ALL for step in source.steps[:-1])
        return type_of(shown, single=not in_items and (last.index != ALL or shown.vm == "1"))
    fitting = _FITTING.get(shown.vr, (STRING,))
    if _TYPES[entry.type] not in fitting:
        names = [name for name, type_ in _TYPES.items() if type_ in fitting]
        raise SettingsError(
            f"an attribute of the VR {shown.vr} cannot be {entry.type}: its `type` may be "
            f"{' or '.join(names)}"
        )
    return _TYPES[entry.type]


def _instance_name(table: Table, entry: _Entry, source: Path) -> str:
    """Return the name in `instance`. The source of a rollup is named by its path, if possible."""
    if entry.name and (entry.level == table.name or _is_private(source)):
        return entry.name.lower()
    name = _path_name(entry, source, str.lower)
    return entry.name.lower() if entry.name and name in table.names else name


def _path_name(entry: _Entry, source: Path, case: Callable[[str], str]) -> str:
    """Return the name of a path: its keywords, the index of a value, the group."""
    if _is_private(source):
        raise SettingsError("a private attribute has no keyword as a name: give it a `name`")
    parts = [case(step.attribute.keyword) for step in source.steps]
    index = source.steps[-1].index
    return "_".join([*parts, *([] if index == ALL else [str(index)]), *filter(None, [entry.group])])


def _is_private(source: Path) -> bool:
    return any(step.creator for step in source.steps)


def _of_rollup(instance: Table, entry: _Entry, attribute_path: Path, source: Column) -> Column:
    aggregate = entry.aggregate or "latest"
    if aggregate in {"sum", "mean"} and source.type not in _NUMBERS:
        raise SettingsError(
            f"{aggregate} is for numbers, and this is {source.type}: take another `aggregate`"
        )
    if aggregate == "distinct" and source.type != STRING:
        raise SettingsError(
            f'distinct is for text, and this is {source.type}: add `type = "string"`, or take '
            "count_distinct"
        )
    kind = source.type
    if aggregate == "mean":
        kind = DOUBLE
    elif aggregate == "count_distinct" or (aggregate == "sum" and kind != DOUBLE):
        kind = INT64
    name = entry.name or _path_name(entry, attribute_path, camel)
    return rolled(name, aggregate, source.name, type_=kind, of=instance)
