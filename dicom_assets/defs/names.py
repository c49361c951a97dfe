"""The names of one set of definitions in Dagster, all derived from one word.

With the default word they are the same as in every earlier release, because the switches and
cursors of schedules and sensors, and alert policies, belong to names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from dicom_assets.errors import SettingsError

DEFAULT_NAME: Final = "dicom"
_QUALITY: Final = "_quality"
_SERVICE: Final = "_service"


@dataclass(frozen=True)
class Names:
    """The names of all objects of a set of definitions; `word` is also the group of the assets.

    Every name begins with `word`, and `key_prefix` goes before the asset keys. Raises SettingsError
    for a word that Dagster does not accept as a name.
    """

    word: str = DEFAULT_NAME
    key_prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise SettingsError unless Dagster accepts the word, whose own error is less clear."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.word, re.ASCII):
            raise SettingsError(
                "name: letters, digits and _ are needed, the first a letter, such as north_clinic"
            )

    @classmethod
    def of(cls, word: str, key_prefix: str | Sequence[str] | None) -> "Names":
        """Return the names of a word and a prefix as Dagster's own functions take it."""
        prefix = [key_prefix] if isinstance(key_prefix, str) else key_prefix or ()
        return cls(word, tuple(prefix))

    def key(self, asset: str) -> dg.AssetKey:
        """Return the key of an asset, such as `instance`."""
        return dg.AssetKey([*self.key_prefix, asset])

    @property
    def service_key(self) -> dg.AssetKey:
        """The key of the external asset that stands for the DICOM service."""
        return self.key(self.service)

    @property
    def quality_key(self) -> dg.AssetKey:
        """The key of the external asset that carries the checks of the tables."""
        return self.key(f"{self.word}{_QUALITY}")

    @property
    def service(self) -> str:
        """The resource of the DICOM service."""
        return f"{self.word}{_SERVICE}"

    @property
    def tables(self) -> str:
        """The IO manager, the job that loads hours into the tables, and the pool of writers."""
        return f"{self.word}_tables"

    @property
    def report(self) -> str:
        """The asset of the report."""
        return f"{self.word}_report"

    @property
    def owner(self) -> str:
        """The owner of the assets."""
        return f"team:{self.word}"

    @property
    def reopened(self) -> str:
        """The sensor that requests hours which were opened again."""
        return f"{self.word}_reopened_hours"

    @property
    def unfilled(self) -> str:
        """The sensor that starts filling tables which were switched on later, or are outdated."""
        return f"{self.word}_unfilled_tables"

    @property
    def dead_runs(self) -> str:
        """The sensor that reports runs as failed whose process is gone."""
        return f"{self.word}_dead_runs"

    @property
    def alerts(self) -> str:
        """The sensor that sends alerts."""
        return f"{self.word}_alerts"

    def job(self, task: str) -> str:
        """Return the name of a job, such as that of `maintenance`."""
        return f"{self.word}_{task}"

    def schedule(self, job: str) -> str:
        """Return the name of the schedule of a job."""
        return f"{job}_schedule"

    def op(self, task: str) -> str:
        """Return the name of an op; with the default word it is the task alone."""
        return task if self.word == DEFAULT_NAME else f"{self.word}_{task}"


def former_check(key: dg.AssetCheckKey) -> dg.AssetCheckKey:
    """Return the key of a check up to release 0.2, when all checks stood on the service.

    By it alerts and earlier results know a check, wherever it stands today.
    """
    *prefix, name = key.asset_key.path
    on_service = [*prefix, f"{name.removesuffix(_QUALITY)}{_SERVICE}"]
    return dg.AssetCheckKey(dg.AssetKey(on_service), key.name) if name.endswith(_QUALITY) else key
