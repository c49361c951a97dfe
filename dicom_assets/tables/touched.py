"""The rows that a window touched, as they are now, for assets downstream of ours."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC, Table
from dicom_assets.tables import change
from dicom_assets.tables.delta.arrow import distinct, is_in
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import key_of
from dicom_assets.window import Window, datetime_of


def touched_rows(
    store: Store, table: Table, window: Window | None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the rows of a table that a window touched; all rows for None.

    For `instance` these are the live rows of the instances that changed in the window, for derived
    tables the rows of their studies, for other tables the rows of the hours.
    """
    if window is None:
        return store.open(table).rows(columns)
    return _reader_of(table)(store, window, list(columns or table.names))


def _changes(store: Store, window: Window, columns: list[str]) -> pa.Table:
    return change.rows_in(store.open(CHANGE), window, columns)


def _instances(store: Store, window: Window, columns: list[str]) -> pa.Table:
    touched = _changes(store, window, list(INSTANCE.key))
    studies = distinct(touched["studyinstanceuid"])
    wanted = [n for n in INSTANCE.names if n in columns or n in INSTANCE.key]
    rows = store.open(INSTANCE).rows_of("studyinstanceuid", studies, wanted)
    return rows.filter(is_in(key_of(rows), key_of(touched))).select(columns)


def _of_studies(table: Table) -> Callable[[Store, Window, list[str]], pa.Table]:
    def read(store: Store, window: Window, columns: list[str]) -> pa.Table:
        studies = distinct(_changes(store, window, ["studyinstanceuid"])["studyinstanceuid"])
        return store.open(table).rows_of(table.study_column, studies, columns)

    return read


def _of_hours(table: Table, column: str) -> Callable[[Store, Window, list[str]], pa.Table]:
    def read(store: Store, window: Window, columns: list[str]) -> pa.Table:
        first, end = (datetime_of(bound).isoformat() for bound in (window.start, window.end))
        where = f"\"{column}\" >= TIMESTAMP '{first}' AND \"{column}\" < TIMESTAMP '{end}'"
        return store.open(table).rows(columns, where)

    return read


def _reader_of(table: Table) -> Callable[[Store, Window, list[str]], pa.Table]:
    if table.is_derived:
        return _of_studies(table)
    return {
        CHANGE.name: _changes,
        INSTANCE.name: _instances,
        SYNC.name: _of_hours(SYNC, "hour"),
        REJECTED.name: _of_hours(REJECTED, "window_start"),
    }[table.name]
