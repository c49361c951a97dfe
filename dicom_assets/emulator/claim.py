"""The 48 hours of the sample archive, claimed once for all processes.

Apart from `sample`, because every load of the definitions asks for them, and few need an archive.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

SPAN: Final = timedelta(hours=48)


def first_hour(directory: Path, *, now: datetime, delay: timedelta) -> datetime:
    """Return the first hour of the archive, the same for every process from now on.

    The first process claims 48 hours that are over, in a file. On a disk that cannot be written the
    result moves with `now`.
    """
    claim = directory.with_name(f"{directory.name}.first-hour")
    start = (now.astimezone(UTC) - delay).replace(minute=0, second=0, microsecond=0) - SPAN
    with suppress(OSError):
        claim.parent.mkdir(0o700, parents=True, exist_ok=True)
        if not claim.exists():
            _create_whole(claim, start.isoformat())
        return datetime.fromisoformat(claim.read_text(encoding="utf-8").strip())
    return start


def _create_whole(path: Path, text: str) -> None:
    """Create the file with this text, unless another process created it first."""
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    draft.write_text(f"{text}\n", encoding="utf-8")
    try:
        # A link appears whole or not at all, and never in place of another file.
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:
        # No links on this disk: a reader may see the file empty for an instant.
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(f"{text}\n")
    finally:
        draft.unlink()
