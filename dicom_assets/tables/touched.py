"""The rows that a window touched, as they are now, for assets downstream of ours."""

from collections.abc import Sequence

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
    wanted = list(columns or table.names)
    if table.is_derived:
        touched = change.rows_in(store.open(CHANGE), window, ["studyinstanceuid"])
        studies = distinct(touched["studyinstanceuid"])
        return store.open(table).rows_of(table.study_column, studies, wanted)
    if table.name == CHANGE.name:
        return change.rows_in(store.open(CHANGE), window, wanted)
    if table.name == INSTANCE.name:
        touched = change.rows_in(store.open(CHANGE), window, list(INSTANCE.key))
        studies = distinct(touched["studyinstanceuid"])
        read = [name for name in table.names if name in wanted or name in INSTANCE.key]
        rows = store.open(INSTANCE).rows_of("studyinstanceuid", studies, read)
        return rows.filter(is_in(key_of(rows), key_of(touched))).select(wanted)
    hour = {SYNC.name: "hour", REJECTED.name: "window_start"}[table.name]
    first, end = (datetime_of(bound).isoformat() for bound in (window.start, window.end))
    where = f"\"{hour}\" >= TIMESTAMP '{first}' AND \"{hour}\" < TIMESTAMP '{end}'"
    return store.open(table).rows(wanted, where)
