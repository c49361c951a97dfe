"""The studies that words fit, and the entries that were rejected, from the tables alone."""

from datetime import timedelta
from typing import Final

from rich.console import Console

from dicom_assets.commands.json_output import print_json
from dicom_assets.commands.lines import count_of, told
from dicom_assets.schema import REJECTED, SYNC
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import local_store
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.find import HERE, NOT_IN_FEED, REJECTED_WORD
from dicom_assets.tables.questions.study_search import PATIENT, SHOWN, studies_of

MOST_SHOWN: Final = 20


def opened(settings: Settings) -> Store:
    """Return the tables; those on a disk without the seconds that Dagster's import takes."""
    if (store := local_store(settings)) is not None:
        return store
    from dicom_assets.definitions import io_manager

    return io_manager(settings).store()


def print_studies(store: Store, words: str, *, patient: bool, as_json: bool) -> bool:
    """Print the studies that the words fit; return False, without a word, if there is none."""
    found, names = studies_of(store, words), [*SHOWN, *(PATIENT if patient else ())]
    if not found.num_rows:
        return False
    rows = found.slice(0, MOST_SHOWN).select(names).to_pylist()
    if as_json:
        print_json({"verdict": {"word": HERE}, "count": found.num_rows, "studies": rows})
        return True
    console = Console()
    many = found.num_rows > MOST_SHOWN
    narrow = f", the newest {MOST_SHOWN}. Narrow by a day: 2026-01-31, 2026-01-01..2026-01-31"
    studies = count_of(found.num_rows, "study", "studies")
    told(console, f"{HERE}  {studies}{narrow if many else ''}", style="bold green")
    for row in rows:
        series = count_of(row["seriesCount"] or 0, "series", "series")
        told(
            console,
            f"  {row['studyDate'] or 'no date'}  {row['modalitiesInStudy'] or '-'}  {series}  "
            f"{count_of(row['instanceCount'] or 0, 'image')}  "
            f"accession {row['accessionNumber'] or '-'}",
            row["studyInstanceUid"],
            indent=4,
        )
        if patient:
            told(console, "    " + "  ".join(str(row[name] or "-") for name in PATIENT), indent=4)
    return True


def print_none(store: Store, *, as_json: bool) -> None:
    """Print that no study fits, and up to which hour the tables know all."""
    sealed = store.open(SYNC).rows(["hour", "sealedAt"]).to_pylist()
    newest = max((row["hour"] for row in sealed if row["sealedAt"]), default=None)
    known = "the tables are empty" if newest is None else f"they end at {_end(newest)}"
    sentence = f"no study in the tables has these words, and {known}"
    if as_json:
        print_json({"verdict": {"word": NOT_IN_FEED, "sentence": sentence}, "count": 0})
        return
    remedy = "find STUDY_UID asks the service too"
    told(Console(), f"{NOT_IN_FEED}  {sentence}: {remedy}", style="bold red")


def _end(hour: object) -> str:
    return f"{hour + timedelta(hours=1):%Y-%m-%d %H:%M} UTC"  # type: ignore[operator]  # an hour


def print_rejected(store: Store, *, as_json: bool) -> int:
    """Print the entries that could not be used, the newest first; return the exit code."""
    rows = store.open(REJECTED).rows().sort_by([("window_start", "descending")]).to_pylist()
    if as_json:
        print_json({"count": len(rows), "rejected": rows})
        return 1 if rows else 0
    console = Console()
    if not rows:
        told(console, "nothing is rejected")
        return 0
    told(console, f"{REJECTED_WORD}  {count_of(len(rows), 'entry', 'entries')}", style="bold red")
    for row in rows[:MOST_SHOWN]:
        number = "no sequence" if row["sequence"] is None else f"entry {row['sequence']}"
        told(console, f"  {row['window_start']:%Y-%m-%d %H:%M} UTC  {number}  {row['reason']}")
    if len(rows) > MOST_SHOWN:
        told(console, f"  and {len(rows) - MOST_SHOWN:,} more: --json has all")
    return 1
