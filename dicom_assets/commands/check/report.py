"""All probes in their order, and their lines in the terminal or as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from dicom_assets.commands.check import configuration
from dicom_assets.commands.check.dagster_instance import DAGSTER_GROUP, InstanceProbe
from dicom_assets.commands.check.probe import (
    Finding,
    Line,
    Probe,
    State,
    explained,
    lines,
    ok,
    unseen,
)
from dicom_assets.commands.check.service import FEED, SERVICE_GROUP, ServiceProbe
from dicom_assets.commands.check.storage import STORAGE_GROUP, StorageProbe
from dicom_assets.commands.home import DEFAULT_HOME
from dicom_assets.commands.json_output import print_json
from dicom_assets.commands.progress import working
from dicom_assets.definitions import io_manager
from dicom_assets.defs.checks.upkeep import ROOM_BYTES
from dicom_assets.errors import DicomAssetsError, SettingsError
from dicom_assets.schema import CHANGE
from dicom_assets.settings import Settings
from dicom_assets.tables.change import require_archive
from dicom_assets.tables.delta.snapshot import Store

_SETTINGS: Final = "settings"
_STYLES: Final = {
    State.OK: "green",
    State.WARN: "yellow",
    State.RED: "bold red",
    State.UNSEEN: "dim",
}
_STATE_COLUMNS, _NAME_COLUMNS = 10, 28
# Dagster+ sets it wherever it runs code.
_PLUS: Final = "DAGSTER_CLOUD_DEPLOYMENT_NAME"


def run_probes(environment: Mapping[str, str], *, as_json: bool = False) -> bool:
    """Print a line for each probe, with a remedy where it is red; True when none is."""
    console, printed = Console(), list[Line]()
    with ExitStack() as closing, working("looking", "{}: {}") as progress:
        check = _Check(environment, closing)
        for line in lines(check.probes(), lambda probe: progress(probe.group, probe.name)):
            if not as_json:
                _show(console, line, is_first=not printed or printed[-1].group != line.group)
            printed.append(line)
    is_well = all(line.state is not State.RED for line in printed)
    if as_json:
        facts = {"is_well": is_well, "DICOM_START_TIME": check.start_time}
        print_json(facts | {"lines": [asdict(line) for line in printed]})
    else:
        _sum_up(console, printed, check.start_time)
    return is_well


def _show(console: Console, line: Line, *, is_first: bool) -> None:
    if is_first:
        console.print(f"[bold]{line.group}[/]")
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(width=_STATE_COLUMNS, style=_STYLES[line.state])
    grid.add_column(width=_NAME_COLUMNS, overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_row(line.state.value, line.name, Text(line.found))
    if line.remedy:
        grid.add_row("", "", Text(f"-> {line.remedy}", style="cyan"))
    console.print(grid)


def _sum_up(console: Console, printed: list[Line], start_time: str | None) -> None:
    counts = Counter(line.state for line in printed)
    console.print(", ".join(f"{counts[state]} {state.value}" for state in State), highlight=False)
    if start_time is not None:
        console.print(f"DICOM_START_TIME={start_time}", highlight=False, soft_wrap=True)


@dataclass
class _Check:
    """The probes for an environment; `closing` closes what they open."""

    environment: Mapping[str, str]
    closing: ExitStack
    _service: ServiceProbe | None = None

    @property
    def start_time(self) -> str | None:
        """The feed's first hour as DICOM_START_TIME takes it; None when it is not known."""
        hour = self._service and self._service.first_hour
        return None if hour is None else f"{hour:%Y-%m-%dT%H:%M:%SZ}"

    def probes(self) -> Iterator[Probe]:
        """Yield the probes in their order; those that need valid settings come after them."""
        given = self.environment
        yield Probe(_SETTINGS, _SETTINGS, partial(configuration.probe_settings, given))
        completeness = partial(configuration.probe_completeness, given)
        yield Probe(_SETTINGS, "complete", completeness, (_SETTINGS,))
        yield Probe(_SETTINGS, "versions", configuration.probe_versions)
        settings: Settings | None = None
        with suppress(SettingsError):
            settings = Settings.from_environment(given, complete=False)
        if settings is None:
            yield _left_out(SERVICE_GROUP, "nothing is known of it", _SETTINGS)
            yield _left_out(STORAGE_GROUP, "nothing is known of it", _SETTINGS)
        else:
            yield from self._of_service(settings)
            yield from self._of_storage(settings)
        yield from self._of_dagster(settings)

    def _of_service(self, settings: Settings) -> Iterator[Probe]:
        if settings.service_url is None:
            unset = "DICOM_SERVICE_URL is unset: the embedded service is used, on this machine"
            yield _left_out(SERVICE_GROUP, unset)
            return
        self._service = ServiceProbe(
            settings.service_url, settings.api_version, settings.batch_size, settings.start_time
        )
        yield from self._service.probes()

    def _of_storage(self, settings: Settings) -> Iterator[Probe]:
        lacking = configuration.missing_settings(self.environment)
        if any(sentence.startswith("DICOM_TABLES_URL") for sentence in lacking):
            yield _left_out(STORAGE_GROUP, "DICOM_TABLES_URL is unset: the place is not known yet")
            return
        kept = io_manager(settings)
        store = kept.store()
        yield from StorageProbe(kept.root_uri, store, ROOM_BYTES).probes()
        if self._service is not None:
            probe = partial(_archive, store, self._service)
            yield Probe(STORAGE_GROUP, "archive", probe, (FEED, CHANGE.name))

    def _of_dagster(self, settings: Settings | None) -> Iterator[Probe]:
        if _PLUS in self.environment:
            yield _left_out(DAGSTER_GROUP, _IN_THE_CLOUD)
            return
        given = self.environment.get("DAGSTER_HOME", "").strip()
        home = Path(given or DEFAULT_HOME).absolute()
        if not home.is_dir():
            which = "DAGSTER_HOME" if given else "as `dicom-assets dev` makes it"
            yield _left_out(DAGSTER_GROUP, f"there is no instance yet in {home} ({which})")
            return
        yield from InstanceProbe(home, self.closing).probes(settings)


_IN_THE_CLOUD: Final = (
    "Dagster+ keeps the instance itself: the pool's limit, run monitoring and what is switched on "
    "are on its pages under Deployment and Automation"
)


def _left_out(group: str, why: str, *needs: str) -> Probe:
    return Probe(group, group, partial(unseen, why), needs)


def _archive(store: Store, service: ServiceProbe) -> Finding:
    """Red unless the newest entry of the log is in the service."""
    try:
        logged = store.open(CHANGE)
        if not logged.count():
            return ok("no entry is in the log yet; it fits any service")
        with service.open() as feed:
            require_archive(logged, feed)
    except DicomAssetsError as error:
        return explained(error)
    return ok("the newest entry of the log is in the service")
