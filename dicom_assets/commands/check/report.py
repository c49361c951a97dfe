"""All probes in their order, and their lines in the terminal or as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from dicom_assets.commands.check import configuration
from dicom_assets.commands.check.dagster_instance import DAGSTER_GROUP, InstanceProbe
from dicom_assets.commands.check.probe import Line, Probe, State, lines, unseen
from dicom_assets.commands.check.service import FEED, SERVICE_GROUP, ServiceProbe
from dicom_assets.commands.check.storage import STORAGE_GROUP, StorageProbe
from dicom_assets.commands.home import DEFAULT_HOME
from dicom_assets.commands.json_output import print_json
from dicom_assets.commands.progress import working
from dicom_assets.definitions import io_manager
from dicom_assets.defs.checks.upkeep import ROOM_BYTES
from dicom_assets.errors import SettingsError
from dicom_assets.schema import CHANGE
from dicom_assets.settings import Settings

_SETTINGS: Final = "settings"
_STYLES = {State.OK: "green", State.WARN: "yellow", State.RED: "bold red", State.UNSEEN: "dim"}


def run_probes(environment: Mapping[str, str], *, as_json: bool = False) -> bool:
    """Print a line for each probe, with a remedy where it is red; True when none is."""
    console, printed = Console(), list[Line]()
    settings: Settings | None = None
    service: ServiceProbe | None = None
    with suppress(SettingsError):
        settings = Settings.from_environment(environment, complete=False)
        if settings.service_url is not None:
            service = ServiceProbe(
                settings.service_url, settings.api_version, settings.batch_size, settings.start_time
            )
    with ExitStack() as closing, working("looking", "{}: {}") as progress:
        probes = _probes(environment, settings, service, closing)
        for line in lines(probes, lambda probe: progress(probe.group, probe.name)):
            if not as_json:
                _show(console, line, is_first=not printed or printed[-1].group != line.group)
            printed.append(line)
    is_well = all(line.state is not State.RED for line in printed)
    hour = service and service.first_hour
    start_time = None if hour is None else f"{hour:%Y-%m-%dT%H:%M:%SZ}"
    if as_json:
        facts = {"is_well": is_well, "DICOM_START_TIME": start_time}
        print_json(facts | {"lines": [asdict(line) for line in printed]})
        return is_well
    counts = Counter(line.state for line in printed)
    console.print(", ".join(f"{counts[state]} {state.value}" for state in State), highlight=False)
    if start_time is not None:
        console.print(f"DICOM_START_TIME={start_time}", highlight=False, soft_wrap=True)
    return is_well


def _show(console: Console, line: Line, *, is_first: bool) -> None:
    if is_first:
        console.print(f"[bold]{line.group}[/]")
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(width=10, style=_STYLES[line.state])
    grid.add_column(width=28, overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_row(line.state.value, line.name, Text(line.found))
    if line.remedy:
        grid.add_row("", "", Text(f"-> {line.remedy}", style="cyan"))
    console.print(grid)


def _probes(
    environment: Mapping[str, str],
    settings: Settings | None,
    service: ServiceProbe | None,
    closing: ExitStack,
) -> Iterator[Probe]:
    """Yield the probes in their order; those that need valid settings come after them."""
    yield Probe(_SETTINGS, _SETTINGS, partial(configuration.probe_settings, environment))
    completeness = partial(configuration.probe_completeness, environment)
    yield Probe(_SETTINGS, "complete", completeness, (_SETTINGS,))
    yield Probe(_SETTINGS, "versions", configuration.probe_versions)
    if settings is None:
        yield _left_out(SERVICE_GROUP, "nothing is known of it", _SETTINGS)
        yield _left_out(STORAGE_GROUP, "nothing is known of it", _SETTINGS)
    else:
        if service is None:
            unset = "DICOM_SERVICE_URL is unset: the embedded service is used, on this machine"
            yield _left_out(SERVICE_GROUP, unset)
        else:
            yield from service.probes()
        yield from _of_storage(environment, settings, service)
    yield from _of_dagster(environment, settings, closing)


def _of_storage(
    environment: Mapping[str, str], settings: Settings, service: ServiceProbe | None
) -> Iterator[Probe]:
    lacking = configuration.missing_settings(environment)
    if any(sentence.startswith("DICOM_TABLES_URL") for sentence in lacking):
        yield _left_out(STORAGE_GROUP, "DICOM_TABLES_URL is unset: the place is not known yet")
        return
    kept = io_manager(settings)
    store = kept.store()
    yield from StorageProbe(kept.root_uri, store, ROOM_BYTES).probes()
    if service is not None:
        yield Probe(STORAGE_GROUP, "archive", partial(service.archive, store), (FEED, CHANGE.name))


def _of_dagster(
    environment: Mapping[str, str], settings: Settings | None, closing: ExitStack
) -> Iterator[Probe]:
    if "DAGSTER_CLOUD_DEPLOYMENT_NAME" in environment:  # set by Dagster+ wherever it runs code
        yield _left_out(
            DAGSTER_GROUP,
            "Dagster+ keeps the instance itself: the pool's limit, run monitoring and what is "
            "switched on are on its pages under Deployment and Automation",
        )
        return
    given = environment.get("DAGSTER_HOME", "").strip()
    home = Path(given or DEFAULT_HOME).absolute()
    if home.is_dir():
        yield from InstanceProbe(home, closing).probes(settings)
        return
    which = "DAGSTER_HOME" if given else "as `dicom-assets dev` makes it"
    yield _left_out(DAGSTER_GROUP, f"there is no instance yet in {home} ({which})")


def _left_out(group: str, why: str, *needs: str) -> Probe:
    return Probe(group, group, partial(unseen, why), needs)
