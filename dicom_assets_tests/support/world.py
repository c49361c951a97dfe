"""The project on a service and a root of tables: settings, runs through Dagster, contents.

`materialize` is Dagster's own; `contents` is what the tables hold without the times of loading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import dagster as dg

from dicom_assets.definitions import build_definitions, io_manager
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.history import END, START
from dicom_assets_tests.support.watched_service import Service

ASSETS: Final = (CHANGE, INSTANCE, SERIES, STUDY)
RANGE_START: Final = "dagster/asset_partition_range_start"
RANGE_END: Final = "dagster/asset_partition_range_end"
# When a row was written: the only columns in which two equal histories may differ.
LOADED: Final = {
    INSTANCE.name: {"created_date"},
    SYNC.name: {"sealedAt", "instanceAt", "seriesAt", "studyAt"},
}

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class World:
    """One service, one root of tables, and the definitions between them."""

    settings: Settings
    tables: tuple[Table, ...] = TABLES

    @cached_property
    def definitions(self) -> dg.Definitions:
        """The project's definitions for the settings."""
        return build_definitions(self.settings, tables=self.tables)

    @property
    def store(self) -> Store:
        """The tables, opened anew."""
        return io_manager(self.settings, tables=self.tables).store()

    def rows(self, table: Table, *without: str) -> Rows:
        """The rows of a table ordered by key, some columns left out."""
        names = [name for name in table.names if name not in without]
        rows = self.store.open(table).rows(names).to_pylist()
        return sorted(rows, key=lambda row: tuple(str(row[name]) for name in table.key))

    def contents(self) -> dict[str, Rows]:
        """Every table's rows without the times of loading."""
        return {table.name: self.rows(table, *LOADED.get(table.name, ())) for table in TABLES}

    def versions(self) -> dict[str, int]:
        """Every table's Delta version; -1 for one that does not exist."""
        return {table.name: self.store.version(table) for table in TABLES}

    def alive(self) -> set[tuple[object, ...]]:
        """Key, sequence and patient's name of every row of `instance`."""
        names = [*INSTANCE.key, "sequence", "patientname"]
        return {tuple(row[n] for n in names) for row in self.rows(INSTANCE)}

    def run(
        self,
        first: str,
        last: str | None = None,
        *,
        instance: dg.DagsterInstance | None = None,
        only: Sequence[Table] = ASSETS,
        raise_on_error: bool = True,
    ) -> dg.ExecuteInProcessResult:
        """One run over an hour, or over the hours from first to last."""
        keys = [dg.AssetKey(table.name) for table in only]
        return materialize(
            [self.definitions],
            first,
            last,
            instance=instance,
            selection=dg.AssetSelection.assets(*keys),
            raise_on_error=raise_on_error,
        )


def materialize(
    parts: Sequence[dg.Definitions],
    first: str | None = None,
    last: str | None = None,
    *,
    instance: dg.DagsterInstance | None = None,
    selection: dg.AssetSelection | None = None,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    """Dagster has materialized the assets of the definitions, put together, in this process."""
    merged = dg.Definitions.merge(*parts)
    ranged = {} if first is None or last is None else {RANGE_START: first, RANGE_END: last}
    return dg.materialize(
        [asset for asset in merged.assets or () if isinstance(asset, dg.AssetsDefinition)],
        resources=merged.resources,
        selection=selection,
        partition_key=first if last is None else None,
        tags=ranged,
        instance=instance,
        raise_on_error=raise_on_error,
    )


def world(
    service: Service,
    root: Path,
    *,
    start_time: datetime = START,
    end_time: datetime = END,
    delay_minutes: int = 15,
) -> World:
    """The project on a service and a root, with no patience for a service that fails."""
    settings = Settings(
        service_url=service.url,
        tables_url=str(root),
        start_time=start_time,
        end_time=end_time,
        delay_minutes=delay_minutes,
        retry_seconds=0,
    )
    return World(settings)
