"""Asset checks on how the tables are kept: does everything run that has to?

Their reader is the data engineer.
"""

import dagster as dg

from dicom_assets.io_manager import TableIOManager
from dicom_assets.tables.stored import waiting

COLUMNS = "columns"


def checks(service: dg.AssetKey, columns_job: str) -> list[dg.AssetChecksDefinition]:
    """Return the checks on how the tables of a service are kept."""
    return [columns_check(service, columns_job)]


def columns_check(service: dg.AssetKey, job: str) -> dg.AssetChecksDefinition:
    """Return the check that added columns are filled in old rows; `job` fills them."""

    @dg.asset_check(
        asset=service,
        name=COLUMNS,
        description=(
            "Tells columns that were added to a table with rows and are null in the older ones, "
            f"because the job `{job}` has not filled them yet."
        ),
    )
    def filled_columns(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        return _filled(waiting(dicom_tables.store), job)

    return filled_columns


def _filled(found: dict[str, list[str]], job: str) -> dg.AssetCheckResult:
    named = "; ".join(f"{table}: {', '.join(names)}" for table, names in found.items())
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            "Every column has its values in every row."
            if not found
            else f"Older rows are null in columns that were added ({named}). Run the job "
            f"`{job}` once; it reads the headers that the table keeps, and not the service."
        ),
        metadata={f"columns_{table}": len(names) for table, names in found.items()},
    )
