"""Every column of every table, once.

- `attributes`: the DICOM attributes, and the paths to them in a header.
- `columns`: the classes `Column` and `Table`.
- `tables`: the catalogue.
- `added`: the columns of a user's file. The folder `packs` has ready files.
- `views`: SQL views with DICOM's keywords as column names.
"""

from dicom_assets.schema.attributes import Attribute, Path, Step
from dicom_assets.schema.columns import (
    DATE,
    DOUBLE,
    HEADER_MAP,
    INT32,
    INT64,
    STRING,
    TIMESTAMP,
    Aggregate,
    Column,
    Table,
)
from dicom_assets.schema.tables import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC

__all__ = ["CHANGE", "INSTANCE", "REJECTED", "SERIES", "STUDY", "SYNC"]
__all__ += ["DATE", "DOUBLE", "HEADER_MAP", "INT32", "INT64", "STRING", "TIMESTAMP"]
__all__ += ["Aggregate", "Attribute", "Column", "Path", "Step", "Table"]
