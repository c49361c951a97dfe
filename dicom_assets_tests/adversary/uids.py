"""Updates of UIDs, as newer versions of the service do them.

Their effect on the feed is undocumented. Here: the effects that a client might see, for a test to
choose from. Not here: updates of other attributes (`updates`, `archive`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from dicom_assets.emulator.archive import MICROSOFT_DEFAULT, Archive, Instance, instance_key

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS: Final = ("0020000D", "0020000E", "00080018")


class Effect(StrEnum):
    """Effect of new UIDs on the feed."""

    DELETE_CREATE = "delete-create"
    """A Delete under the old UIDs, a Create under the new ones: as if stored anew."""
    CREATE = "create"
    """A Create under the new UIDs; the old entries read Deleted, but no Delete says so."""
    UPDATE = "update"
    """The same with an Update: the first entry of its key is no Create."""
    MISMATCH = "mismatch"
    """An Update under the old UIDs, whose metadata has the new ones."""
    SILENT = "silent"
    """No entry at all: the metadata of the old ones has the new UIDs."""


def change_uids(
    archive: Archive,
    study: str,
    uids: Mapping[str, str],
    effect: Effect,
    *,
    partition: str = MICROSOFT_DEFAULT,
    at: int | None = None,
) -> list[int]:
    """Replace UIDs in every live header of the study, and return the new sequences."""
    moment = archive.clock() if at is None else at
    instances = [one for one in archive.instances(partition) if one.key.study == study]
    return [s for one in instances for s in _change(archive, one, uids, effect, moment)]


def _change(
    archive: Archive, old: Instance, uids: Mapping[str, str], effect: Effect, at: int
) -> list[int]:
    header = _renamed(old.header, uids)
    if effect in {Effect.MISMATCH, Effect.SILENT}:
        actions = () if effect is Effect.SILENT else ("Update",)
        return archive.put(header, key=old.key, actions=actions, at=at)
    new = instance_key(header, old.key.partition)
    gone = []
    if effect is Effect.DELETE_CREATE:
        gone = archive.delete(*old.key[1:], partition=old.key.partition, at=at)
    else:
        archive.expire(*old.key[1:], partition=old.key.partition)
    action = "Update" if effect is Effect.UPDATE else "Create"
    return gone + archive.put(header, key=new, actions=(action,), at=at)


def _renamed(header: dict[str, Any], uids: Mapping[str, str]) -> dict[str, Any]:
    new = {}
    for tag in _LEVELS:
        (old,) = header[tag]["Value"]
        new[tag] = {"vr": "UI", "Value": [uids.get(old, old)]}
    return {**header, **new}
