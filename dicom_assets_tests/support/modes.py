"""The modes of files: what others than the owner may read or write."""

from pathlib import Path


def opened(folder: Path) -> list[str]:
    """The folder and what lies below it, where the mode lets anybody else in."""
    found = [folder, *sorted(folder.rglob("*"))]
    assert len(found) > 1, "nothing was made"
    return [path.as_posix() for path in found if path.lstat().st_mode & 0o077]
