"""The IO manager of the tables: commit an asset's update, load the rows that its hours touched.

It is dagster-deltalake's IO manager and configuration, with a type handler of our own, because the
original one overwrites or loses hours. An asset of this project returns a `TableUpdate`, which
`tables` commits. A downstream asset of somebody else gets the rows of the table that its hours
touched, as they are now. Without partitions it gets the whole table.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import dagster as dg
import pyarrow as pa
from dagster._core.definitions.partitions.subset.all import AllPartitionsSubset
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.storage.db_io_manager import DbIOManager, DbTypeHandler, TableSlice
from dagster_deltalake import DeltaLakeIOManager, LocalConfig
from dagster_deltalake.io_manager import DeltaLakeDbClient
from pydantic import Field

from dicom_assets.defs import pool, watchdog
from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import hour_key, window_of
from dicom_assets.defs.run_tags import is_by_hand
from dicom_assets.defs.storage import AzureStorage, options
from dicom_assets.errors import TableError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Table
from dicom_assets.settings import DEFAULTS
from dicom_assets.tables.catalogue import TABLES, catalogue
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Delta, Store
from dicom_assets.tables.outcome import Outcome, TableUpdate
from dicom_assets.tables.sync import set_marks
from dicom_assets.tables.touched import touched_rows
from dicom_assets.tables.upkeep.damage import named_damage
from dicom_assets.window import Window, datetime_of


@dataclass(frozen=True)
class TouchedHours:
    """The input of an asset of this project: the tables, and the window of the run's hours."""

    store: Store
    window: Window


class DeltaTables(DeltaLakeIOManager):
    """The IO manager over the tables of one root."""

    storage_options: AzureStorage | LocalConfig = Field(
        discriminator="provider", description="The storage in which the root lies."
    )
    paths: dict[str, str] = Field(description="Path of each table below root_uri, by table name.")
    retention_hours: int = Field(
        default=DEFAULTS.retention_hours,
        description="How long removed files of a new table are kept, in hours.",
    )
    columns_file: str | None = Field(
        default=None, description="File that names the columns that were added to the tables."
    )
    service_base: str | None = Field(
        default=None, description="Address of the service with its version, if it has one."
    )

    # The tables that are switched on. They are no configuration, because a table is code.
    tables: ClassVar[tuple[Table, ...]] = TABLES

    @classmethod
    def over(cls, tables: tuple[Table, ...]) -> "type[DeltaTables]":
        """Return the IO manager's class for other tables than TABLES."""
        if tables == cls.tables:
            return cls
        return type(cls.__name__, (cls,), {"tables": tables, "__module__": cls.__module__})

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        """Return the one handler of this project."""
        return [TableHandler()]

    @staticmethod
    def default_load_type() -> type:
        """An input without annotation is an Arrow table."""
        return pa.Table

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["TableIOManager"]:
        """Yield the IO manager of one run. Marks that a failed run owes are set in the end."""
        manager = self.create_io_manager(context)
        try:
            yield manager
        finally:
            # The hours without them are requested again.
            with suppress(TableError):
                run_id = "" if context.run is None else context.run.run_id
                set_marks(manager.store, Run(run_id, datetime.now(UTC)))

    def create_io_manager(self, context: dg.InitResourceContext) -> "TableIOManager":
        """Return the IO manager of one run, which from now on is known to live."""
        if context.instance is not None and context.run is not None:
            pool.begin(context.instance, context.run)
        return TableIOManager(self.store(), self.root_uri)

    def store(self) -> Store:
        """Return the tables themselves."""
        places = {table.name: table.root or self.root_uri for table in self.tables}
        return Store(
            urls={n: f"{root.rstrip('/')}/{self.paths.get(n, n)}" for n, root in places.items()},
            tables=catalogue(self.tables, self.columns_file),
            retention_hours=self.retention_hours,
            options=options(self.storage_options) | options(self.client_options),
            service_base=self.service_base,
        )


class TableIOManager(DbIOManager):
    """The base's IO manager on our store, without SQL: no `partition_expr`, no "Query" metadata."""

    def __init__(self, store: Store, root: str) -> None:
        """Serve the tables of one store, below a root."""
        super().__init__(
            type_handlers=DeltaTables.type_handlers(),
            db_client=DeltaLakeDbClient(),
            database="",
            io_manager_name="DeltaTables",
            default_load_type=DeltaTables.default_load_type(),
        )
        self.store = store
        self.root = root
        self._ended = set[str]()

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Commit the update to its table, and put its numbers on the materialization."""
        if not isinstance(obj, TableUpdate):
            raise dg.DagsterInvariantViolationError(
                "the IO manager of dicom_assets keeps its own tables only; give the asset "
                f"{context.asset_key.to_user_string()} another io_manager_key"
            )
        watchdog.watch(context.step_context.instance, context.run_id)
        start = time.monotonic()
        change = dg.AssetKey([*context.asset_key.path[:-1], CHANGE.name])
        seals = change in context.step_context.job_def.asset_layer.selected_asset_keys
        run = Run(
            context.run_id,
            datetime.now(UTC),
            context.log.info,
            seals=seals,
            marks_later=self._precedes_another(context.step_context),
            retries_resting=is_by_hand(context.step_context.dagster_run.tags),
        )
        with named_damage(self.store):
            outcome = obj.commit(self.store, run)
        # Without Dagster's data versions, which are hashes of run IDs here: they say nothing, and
        # take as much of its database as the numbers of an hour.
        versions = context.step_context._data_version_cache  # noqa: SLF001 - there is no public way
        versions.is_external_input_asset_version_info_loaded = False
        context.add_output_metadata(_metadata(context, outcome, time.monotonic() - start))

    def _precedes_another(self, step: StepExecutionContext) -> bool:
        """Return whether another step of the run marks hours in this process after this one."""
        plan = step.execution_plan
        self._ended.add(step.step.key)
        keys = [
            output.properties.asset_key
            for key in set(plan.step_keys_to_execute) - self._ended
            for output in plan.get_step_by_key(key).step_outputs
        ]
        tables = self.store.tables.keys() - {CHANGE.name}
        return any(key is not None and key.path[-1] in tables for key in keys)

    def load_input(self, context: dg.InputContext) -> object:
        """Load the rows touched in the run's partitions, as the type of the input's annotation."""
        annotation = context.dagster_type.typing_type
        load_type = self._default_load_type if annotation is Any else annotation
        self._check_supported_type(load_type)  # type: ignore[no-untyped-call]  # the base's
        columns = (context.definition_metadata or {}).get("columns")
        part = TableSlice(table=context.asset_key.path[-1], schema="", columns=columns)
        with named_damage(self.store):
            return self._resolve_handler(load_type).load_input(context, part, self.store)


def store_of(context: dg.OpExecutionContext, names: Names) -> Store:
    """Return the store of a run's IO manager, to an op that works on the tables."""
    watchdog.watch(context.instance, context.run_id)
    manager: TableIOManager = getattr(context.resources, names.tables)
    return manager.store


class TableHandler(DbTypeHandler[Any]):
    """The loader of hours, Arrow tables, streams of batches, and the Delta table."""

    @property
    def supported_types(self) -> Sequence[type[object]]:
        """The types that an input may have."""
        return [TouchedHours, pa.Table, pa.RecordBatchReader, Delta]

    def handle_output(
        self, context: dg.OutputContext, table_slice: TableSlice, obj: object, connection: Store
    ) -> None:
        """Raise NotImplementedError: the IO manager commits by itself."""
        raise NotImplementedError

    def load_input(
        self, context: dg.InputContext, table_slice: TableSlice, connection: Store
    ) -> object:
        """Load the rows that the hours touched, as they are now; without hours, the whole table."""
        table, window = connection.tables[table_slice.table], None
        # An asset without partitions gets all hours, which is the whole table.
        subset = context._asset_partitions_subset  # noqa: SLF001 - there is no public way
        if subset is not None and not isinstance(subset, AllPartitionsSubset):
            window = window_of(context.asset_partitions_time_window)
        load_type = context.dagster_type.typing_type
        if load_type is TouchedHours and window is not None:
            return TouchedHours(connection, window)
        if load_type is Delta:
            return connection.delta(table)
        rows = touched_rows(connection, table, window, table_slice.columns)
        return rows.to_reader() if load_type is pa.RecordBatchReader else rows


def numbers_of(outcome: Outcome, seconds: float) -> dict[str, int | float | str]:
    """Return the numbers of an outcome that took seconds, as metadata."""
    unparsable = {f"unparsable_{column}": count for column, count in outcome.unparsable.items()}
    stages = {f"seconds_{name}": round(spent, 3) for name, spent in outcome.seconds.items()}
    size = {"seconds": round(seconds, 3), "rows": outcome.rows}
    versions = {"version_before": outcome.version_before, "version": outcome.version_after}
    return {**outcome.totals, **unparsable, **stages, **size, **versions}


def _metadata(
    context: dg.OutputContext, outcome: Outcome, seconds: float
) -> dict[str, int | float | str]:
    """Return the metadata of a single hour. In a range, add its own to each hour and return none.

    Numbers, which Dagster plots, say what the log has of an hour, so they are the same after every
    run. The work of the run is in words. Dagster repeats the run's metadata on every hour of a
    range, so only the last one gets the rows of the whole table.
    """
    numbers = numbers_of(outcome, seconds)
    text = ", ".join(f"{name} {value}" for name, value in numbers.items())
    context.log.info("%s: %s", context.asset_key.to_user_string(), text)
    own = _OWN.get(context.asset_key.path[-1])
    keys = {hour_key(datetime_of(start)): start for start in outcome.touched}
    hours = {
        key: _hour(outcome.touched[start], own, outcome.hours.get(start, {}))
        for key, start in keys.items()
    }
    *_, last = sorted(hours)
    hours[last]["dagster/row_count"] = outcome.rows
    if len(hours) == 1:
        return {**hours[last], **_run_in_words(outcome, seconds)}
    for key, values in hours.items():
        context.step_context.add_asset_metadata(values, context.asset_key, partition_key=key)
    return {}


def _hour(
    touched: Mapping[str, int], own: str | None, done: Mapping[str, int]
) -> dict[str, int | float | str]:
    """Return the numbers of an hour; `own` is the one of the table, `done` what the run did.

    Numbers of an hour without entries are nought, and take no room.
    """
    shown = {"entries": touched["entries"], **(touched if touched["entries"] else {})}
    counts: dict[str, int | float | str] = {
        n: count for n, count in shown.items() if n == "entries" or n != own
    }
    counts |= {"dagster/partition_row_count": touched[own]} if own else {}
    return counts | ({"this run": _in_words(done)} if any(done.values()) else {})


def _run_in_words(outcome: Outcome, seconds: float) -> dict[str, str]:
    """Return what a run over a single hour did, in words and units."""
    totals, before, after = outcome.totals, outcome.version_before, outcome.version_after
    stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in outcome.seconds.items())
    words = {
        "rows written": _in_words({word: totals[name] for name, word in _WRITTEN.items()}),
        "time": f"{seconds:.1f} s" + (f" ({stages})" if stages else ""),
        "table version": f"{after}" if before == after else f"{before} → {after}",
    }
    if totals["pages"]:
        words["read"] = f"{totals['pages']:,} pages, {totals['bytes'] / 1000:,.1f} kB"
    if outcome.unparsable:
        words["values that do not parse"] = _in_words(outcome.unparsable)
    return words


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


# The number of an hour that counts rows of the table itself.
_OWN = {CHANGE.name: "entries", INSTANCE.name: "instances", SERIES.name: "series"}
_OWN |= {STUDY.name: "studies"}
_WRITTEN = {"inserts": "new", "updates": "replaced", "patches": "patched", "deletes": "deleted"}
