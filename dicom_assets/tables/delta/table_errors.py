"""Errors of the engine and of the storage, raised as this project's own."""

from dataclasses import dataclass

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from dicom_assets.errors import ConflictError, TableUnavailableError
from dicom_assets.schema import Table


def raise_table_errors(table: Table, url: str) -> "_TableErrors":
    """Raise errors of the engine and of the storage as ours, without their text.

    Raises ConflictError for a commit that came too late, TableUnavailableError for anything else.
    The texts of the engine and of the storage may quote values of rows.
    """
    return _TableErrors(table, url)


def conflict_error(table: Table) -> ConflictError:
    """Return the error of a commit that came too late."""
    return ConflictError(f"another run committed to table {table.name} first")


@dataclass(frozen=True)
class _TableErrors:
    """The errors that leave a block of code about one table.

    The engine's SQL raises plain `Exception`, so that very class counts as an error of the table,
    and no class below it. A handler could not tell the two apart.
    """

    table: Table
    url: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        if issubclass(kind, CommitFailedError):
            raise conflict_error(self.table) from None
        if kind is Exception or issubclass(kind, (DeltaError, OSError, pa.ArrowException)):
            raise TableUnavailableError(
                f"table {self.table.name} at {self.url} could not be read or written "
                f"({kind.__name__}); it is as it was before. Check that the path exists, may be "
                "written and has space, then run again"
            ) from None
