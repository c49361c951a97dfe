"""Faults that are none of the network's: the archive changes between two pages.

The change is made before the request is answered, so that it falls between the page before and
this one. An operation on nothing live has no effect.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.concurrency import run_in_threadpool

from dicom_assets.emulator.archive import MICROSOFT_DEFAULT, Archive, ArchiveError
from dicom_assets_tests.adversary.exchange import Answer, Fault

if TYPE_CHECKING:
    from dicom_assets_tests.adversary.exchange import Asked, Service


class Operate(Fault, frozen=True):
    """A write to the archive; `header` is what is stored, or what an update changes."""

    operation: Literal["store", "update", "delete", "expire"]
    study: str = ""
    series: str | None = None
    instance: str | None = None
    header: dict[str, Any] = msgspec.field(default_factory=dict)
    partition: str = MICROSOFT_DEFAULT
    at: int | None = None

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """Return the service's answer after the write."""
        await run_in_threadpool(self.perform, asked.archive)
        return await service(asked)

    def perform(self, archive: Archive) -> None:
        """The write is done, or was not possible."""
        with suppress(ArchiveError):
            match self.operation:
                case "store":
                    archive.store(self.header, partition=self.partition, at=self.at)
                case "update":
                    changes, where = self.header, self.partition
                    archive.update([self.study], changes, partition=where, at=self.at)
                case "delete":
                    archive.delete(*self._uids(), partition=self.partition, at=self.at)
                case "expire":
                    archive.expire(*self._uids(), partition=self.partition)

    def _uids(self) -> tuple[str, str | None, str | None]:
        return self.study, self.series, self.instance


class Call(Fault, frozen=True):
    """A function of the test, registered with the faults by this name, is called first."""

    name: str

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """Return the service's answer after the call; KeyError for a name without a function."""
        await run_in_threadpool(asked.callbacks[self.name], asked.archive)
        return await service(asked)
