"""Headers for benchmarks: those of pydicom's real files, each instance with values of its own."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dicom_assets.emulator import sample

ROOT_UID: Final = "1.2.826.0.1.3680043.8.498"


def real() -> list[dict[str, Any]]:
    """Return the headers of pydicom's files, as the emulator serves them."""
    with tempfile.TemporaryDirectory() as folder:
        first = datetime(2026, 1, 1, tzinfo=UTC)
        archive = sample.prepare_archive(Path(folder) / "archive", first_hour=first)
        return [instance.header for instance in archive.instances()]


def entry(number: int, header: dict[str, Any]) -> bytes:
    """Return a Create of an instance with that header, as a page holds it."""
    own = {
        "00080018": {"vr": "UI", "Value": [f"{ROOT_UID}.{number}"]},
        "00200013": {"vr": "IS", "Value": [number]},
    }
    shown = dict(sorted((header | own).items()))
    uids = {"study": "0020000D", "series": "0020000E", "sop": "00080018"}
    fields = {
        "sequence": number + 1,
        "partitionName": "Microsoft.Default",
        **{f"{name}InstanceUid": shown[tag]["Value"][0] for name, tag in uids.items()},
        "action": "Create",
        "timestamp": f"2026-01-01T00:00:00.{number:07d}Z",
        "state": "Current",
        "filePath": None,
        "metadata": shown,
    }
    return dumped(fields).encode()


def dumped(what: object) -> str:
    """Return compact JSON."""
    return json.dumps(what, separators=(",", ":"), ensure_ascii=False)
