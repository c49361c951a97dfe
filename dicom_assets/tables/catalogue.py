"""Every table, one name each in `_TABLES`, and what a root holds of them.

A further table is one module that declares it (columns, key, how it is derived from `instance`),
and one name here. Code that works on all tables gets them as an argument, or from the store.
"""

from collections.abc import Mapping

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table, added
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import with_marks

_TABLES = (CHANGE, SYNC, INSTANCE, SERIES, STUDY, REJECTED)
TABLES = tuple(with_marks(_TABLES) if table is SYNC else table for table in _TABLES)


def catalogue(
    tables: tuple[Table, ...] = TABLES, columns_file: str | None = None
) -> Mapping[str, Table]:
    """Return tables by name as a root holds them.

    They have the columns that a file adds, and `sync` has a mark for each table that follows the
    feed. Raises SettingsError for a file that cannot be used.
    """
    return dict(added.tables(columns_file, tables)) | {SYNC.name: with_marks(tables)}


def local_store(settings: Settings) -> Store | None:
    """Return the tables below a root on a disk, without Dagster; None for another root."""
    if "://" in settings.tables_root:
        return None
    return Store(
        urls={table.name: settings.table_path(table.name) for table in TABLES},
        tables=catalogue(columns_file=settings.columns_file),
        retention_hours=settings.retention_hours,
    )
