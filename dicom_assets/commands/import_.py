"""`dicom-assets import`: a folder of files as an archive and tables of their own, in one command.

Finding, reading and storing are in `emulator.own_files`. Here: the hours in which the files count
as received, the tables brought up to them, and the words.
"""

import csv
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_assets.commands.lines import count_of, told
from dicom_assets.settings import FIRST_YEAR, OWN_ARCHIVE, Settings, own_root

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive
    from dicom_assets.emulator.own_files import ImportResult, Refusal
    from dicom_assets.window import Span

REFUSED: Final = "refused.csv"
_WORDS: Final[Mapping[str, str]] = {
    "not-part-10": "not DICOM",
    "no-study-instance-uid": "without UIDs",
    "no-series-instance-uid": "without UIDs",
    "no-sop-instance-uid": "without UIDs",
    "no-sop-class-uid": "without UIDs",
    "invalid-uid": "with invalid UIDs",
    "no-patient-id": "without a patient ID",
    "invalid-patient-id": "with an invalid patient ID",
    "cut-short": "cut short",
    "unreadable": "damaged",
    "unreadable-file": "cannot be opened",
    "stored-twice": "there twice",
    "other-content": "with the UIDs of another file",
    "name-not-utf-8": "with a name that is not UTF-8",
    "named-in-dicomdir": "named in a DICOMDIR and not there",
    "damaged-zip": "in a damaged zip file",
    "large-zip": "a zip file too large to unpack",
    "encrypted": "encrypted in a zip file",
}
_APART_TICKS: Final = 10_000  # a millisecond between two instances


@click.command("import")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--name", default="own", show_default=True, help="Name of the archive, below data/.")
@click.option(
    "--spread",
    type=click.Choice(["study-date"]),
    help="Let studies count as received on their own dates, not now.",
)
@click.option("--undo", is_flag=True, help="Take the last import back.")
def import_(paths: tuple[Path, ...], name: str, spread: str | None, undo: bool) -> None:
    """Bring a folder of DICOM files into tables of their own; or files, DICOMDIRs, zip files.

    The files stay where they are, and are not changed. A second import adds what is new.
    """
    if not Settings.from_environment(complete=False).is_embedded:
        raise click.ClickException(
            "files are imported into an archive of their own, but DICOM_SERVICE_URL is set: unset "
            "it. To store files in your service, use its STOW-RS"
        )
    if bool(paths) == undo:
        raise click.UsageError("name files or folders to import, or --undo the last import")
    for path in paths:
        if not os.path.lexists(path):
            raise click.BadParameter(f"'{path}' does not exist", param_hint="PATHS")
    root = own_root(name)
    if undo and not (root / OWN_ARCHIVE).is_dir():
        raise click.ClickException(f"there is nothing to take back in {root}")
    if root.exists() and not (root / OWN_ARCHIVE).is_dir() and any(root.iterdir()):
        raise click.ClickException(f"{root} holds other things: choose another --name")
    root.mkdir(0o700, parents=True, exist_ok=True)
    try:
        with FileLock(root.with_name(f".{name}.lock"), timeout=0):
            sys.exit(_undo(root) if undo else _import(root, paths, is_spread=spread is not None))
    except Timeout:
        raise click.ClickException(f"another import into {root} is at work: wait for it") from None
    except BrokenProcessPool:
        raise click.ClickException(
            "a process that reads files was ended, by lack of memory for one. All files before are "
            "stored: run the same command again"
        ) from None


def _import(root: Path, paths: Sequence[Path], *, is_spread: bool) -> int:
    from dicom_assets.emulator.archive import Archive
    from dicom_assets.emulator.own_files import Search, store_files

    began, console = time.monotonic(), Console()
    settings, over = _settings(root), _hour_that_is_over()
    with _bar() as bar:
        task = bar.add_task("finding files", total=None)
        search = Search(root)
        for path in paths:
            search.add(path)
        bar.update(task, description="reading files", total=len(search.files) or 1)

        def moment(number: int, header: Mapping[str, Any]) -> int:
            from dicom_assets.window import TICKS_PER_HOUR, floor_hour, ticks_of

            studied = _study_time(header) if is_spread else None
            start = over if studied is None else min(studied, over)
            at = ticks_of(start) + number * _APART_TICKS % TICKS_PER_HOUR
            last = ticks_of(floor_hour(start)) + TICKS_PER_HOUR - 1
            return min(at, last)

        archive = Archive(root / OWN_ARCHIVE)
        stored = store_files(
            archive,
            search.files,
            moment,
            lambda done, _: bar.update(task, completed=done),
        )
        stored.refused.extend(search.refused)
        bar.update(task, description="into the tables", total=None)
        missing = _follow(settings, root, archive)
    _write_refused(root, stored.refused)
    total = stored.modalities.total()
    seconds = int(time.monotonic() - began)
    given = f"{_home(paths[0])}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    files = total + stored.known + len(stored.refused)
    blocks = "█" * 10 + " " if console.is_terminal else ""
    told(
        console,
        f"import {given}   {count_of(files, 'file')}, {decimal(search.size, precision=0)}",
        f"{blocks}{seconds // 60}:{seconds % 60:02d}",
    )
    _print_stored(console, root, stored)
    if missing:
        told(console, f"NOT COMPLETE  {missing}", f"dicom-assets status --name {root.name}")
    return 0 if total + stored.known and not missing else 1


def _print_stored(console: Console, root: Path, stored: "ImportResult") -> None:
    total = stored.modalities.total()
    if total:
        each = "  ".join(f"{name} {count:,}" for name, count in stored.modalities.most_common())
        told(
            console,
            f"{count_of(len(stored.studies), 'study', 'studies')} · {len(stored.series):,} series"
            f" · {count_of(total, 'image')} ({each})",
            f"→ {root}",
        )
    if stored.known:
        told(console, f"{count_of(stored.known, 'file')} there already", f"→ {root}")
    if stored.refused:
        reasons = Counter(_WORDS.get(one.reason, one.reason) for one in stored.refused)
        each = " · ".join(f"{count:,} {words}" for words, count in reasons.most_common())
        told(console, f"refused {len(stored.refused):,}: {each}", f"→ {root / REFUSED}")
    if total:
        told(console, "receive times are those of this import; study dates are the files' own")
    own = "" if root.name == "own" else f" --name {root.name}"
    told(console, f"next: dicom-assets report{own} | find{own} ACCESSION | sql{own}")


def _undo(root: Path) -> int:
    from dicom_assets.emulator.archive import Archive
    from dicom_assets.emulator.own_files import UNPACKED, imports, take_back
    from dicom_assets.window import HOUR, ticks_of

    settings, console = _settings(root), Console()
    archive = Archive(root / OWN_ARCHIVE)
    if len(imports(archive)) > 1:
        with _bar() as bar:
            bar.add_task("taking back", total=None)
            count = take_back(archive, ticks_of(_hour_that_is_over() + HOUR) - 1)
            missing = _follow(settings, root, archive)
        told(console, f"took back {count_of(count, 'image')} of the last import", f"→ {root}")
        if missing:
            told(console, f"NOT COMPLETE  {missing}", f"dicom-assets status --name {root.name}")
        return 1 if missing else 0
    archive.close()
    from dicom_assets.tables.catalogue import TABLES

    own = [settings.table_relative_path(table.name).split("/")[0] for table in TABLES]
    for folder in (*own, "dagster", UNPACKED, OWN_ARCHIVE):
        shutil.rmtree(root / folder, ignore_errors=True)
    for file in (REFUSED, f"{OWN_ARCHIVE}.first-hour", f"{OWN_ARCHIVE}.lock"):
        (root / file).unlink(missing_ok=True)
    is_empty = not any(root.iterdir())
    if is_empty:
        root.rmdir()
    told(console, "took back the only import: the archive and its tables are gone; your files stay")
    return 0


def _settings(root: Path) -> Settings:
    """Return the settings of the environment, for the archive and the tables below a root."""
    settings = Settings.from_environment(complete=False)
    return replace(
        settings,
        tables_url=root.absolute().as_posix(),
        start_time=None,
        end_time=None,
        data_partitions=None,
    )


def _hour_that_is_over() -> datetime:
    """Return the newest hour that any delay up to a day regards as closed."""
    from dicom_assets.window import HOUR, floor_hour

    delay = Settings.from_environment(complete=False).delay_minutes
    return floor_hour(datetime.now(UTC) - timedelta(minutes=delay)) - HOUR


def _study_time(header: Mapping[str, Any]) -> datetime | None:
    """Return the date and time of the study as if in UTC; None for none that can be used."""
    day, clock = (
        str(header.get(tag, {}).get("Value", [""])[0] or "") for tag in ("00080020", "00080030")
    )
    for text, form in ((day + clock[:6], "%Y%m%d%H%M%S"), (day, "%Y%m%d")):
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return moment if moment.year >= FIRST_YEAR else None
    return None


def _follow(settings: Settings, root: Path, archive: "Archive") -> str:
    """Bring the tables up to the archive by runs of Dagster; return what is wrong, if anything."""
    from dicom_assets.commands.home import initialise_home
    from dicom_assets.commands.materialize import materializer
    from dicom_assets.definitions import io_manager
    from dicom_assets.schema import INSTANCE

    spans = _hours(settings, root, archive)
    if spans:
        materialize = materializer(settings, initialise_home(root / "dagster"))
        for span in spans:
            if (failures := materialize(span)) is not None:
                return "; ".join(failures) or "a run failed: `dicom-assets dev` shows it"
    store = io_manager(settings).store()
    live, rows = sum(1 for _ in archive.instances()), store.open(INSTANCE).count()
    return "" if live == rows else f"{live - rows:,} of {live:,} images are not in the tables"


def _hours(settings: Settings, root: Path, archive: "Archive") -> list["Span"]:
    """Return the hours that the tables have to follow, and note the first of all.

    They are those that hold an entry: nothing can have arrived between two imports.
    """
    from dicom_assets.definitions import io_manager
    from dicom_assets.schema import CHANGE
    from dicom_assets.tables.sync import followed
    from dicom_assets.window import HOUR, Bounds, Window, datetime_of, floor_hour, spans_of

    store = io_manager(settings).store()
    newest = store.open(CHANGE).greatest("sequence", ["sequence"])["sequence"].to_pylist()
    logged = newest[0] or 0 if newest else 0
    hours = {e.sequence: floor_hour(datetime_of(e.ticks)) for e in archive.since(1)}
    if not hours:
        return []
    changed = {hour for sequence, hour in hours.items() if sequence > logged}
    claim = root / f"{OWN_ARCHIVE}.first-hour"
    known = [datetime.fromisoformat(claim.read_text("utf-8").strip())] if claim.exists() else []
    first, last = min([*known, *hours.values()]), max(hours.values())
    claim.write_text(f"{first.isoformat()}\n", encoding="utf-8")
    shown = followed(store, Bounds(Window.between(first, last + HOUR)))
    return spans_of(changed | {*hours.values()} - shown)


def _write_refused(root: Path, refused: Sequence["Refusal"]) -> None:
    """Write the refused files of the last import, for the owner alone."""
    path = root / REFUSED
    path.unlink(missing_ok=True)
    if not refused:
        return
    path.touch(0o600)
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows((one.shown, _WORDS.get(one.reason, one.reason)) for one in refused)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(10), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _home(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
