"""The names of one set of definitions, all derived from one word.

With the default word they are those of every release so far: switches, cursors and alert policies
belong to names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from dicom_assets.errors import SettingsError

DEFAULT_NAME: Final = "dicom"


@dataclass(frozen=True)
class Names:
    """Every name that Dagster knows a set of definitions by.

    `word` begins them all; `key_prefix` goes before the asset keys. Raises SettingsError for a word
    that Dagster takes for no name.
    """

    word: str = DEFAULT_NAME
    key_prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a word that Dagster would refuse later, and less clearly."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.word, re.ASCII):
            raise SettingsError(
                "name: a name of Dagster is needed, letters, digits and _, such as north_clinic"
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
    def service(self) -> str:
        """The resource: the DICOM service."""
        return f"{self.word}_service"

    @property
    def tables(self) -> str:
        """The IO manager, the job that brings the tables to an hour, and the pool of writers."""
        return f"{self.word}_tables"

    @property
    def group(self) -> str:
        """The group of the assets."""
        return self.word

    @property
    def owner(self) -> str:
        """The owner of the assets."""
        return f"team:{self.word}"

    @property
    def reopened(self) -> str:
        """The sensor that asks for hours which were opened again."""
        return f"{self.word}_reopened_hours"

    @property
    def unfilled(self) -> str:
        """The sensor that starts filling tables which were switched on later."""
        return f"{self.word}_unfilled_tables"

    @property
    def alerts(self) -> str:
        """The sensor that tells people."""
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
