"""Why something failed, in words that hold no value: our own errors say it, others are named."""

from dataclasses import dataclass

from dagster._core.errors import DagsterAssetCheckFailedError
from dagster_shared.error import SerializableErrorInfo

from dicom_assets import errors
from dicom_assets.defs.check_words import ReaderRole

_OURS = f"{errors.__name__}."
# Nobody has to do anything until it has lasted.
_PASSING = (
    errors.NotYetError,
    errors.ServiceUnavailableError,
    errors.ServiceAnswerError,
    errors.TableUnavailableError,
    errors.ConflictError,
)
# It stays until somebody acts.
_LASTING = (
    errors.SettingsError,
    errors.ServiceRefusedError,
    errors.ForeignTableError,
    errors.ForeignArchiveError,
    errors.DamagedTableError,
    errors.DoubledRowsError,
)


@dataclass(frozen=True)
class Cause:
    """The class of an error, and what may be told of it."""

    name: str
    text: str
    error: type[Exception] | None = None

    @property
    def passes(self) -> bool:
        """Whether it may be over by itself at the next attempt."""
        return self.name == "" or self._is(_PASSING)

    @property
    def lasts(self) -> bool:
        """Whether the next attempt ends in the same way."""
        return self._is(_LASTING)

    @property
    def reader(self) -> ReaderRole:
        """Who has to act."""
        return ReaderRole.SERVICE if self._is((errors.ServiceError,)) else ReaderRole.PLATFORM

    def _is(self, kinds: tuple[type[Exception], ...]) -> bool:
        return self.error is not None and issubclass(self.error, kinds)


KILLED = Cause(
    "",
    "The run ended without an error: its process was killed, or its machine has gone. Look for "
    "memory (`dmesg`, the limits of the container) and for restarts.",
)


def cause_of(error: SerializableErrorInfo | None) -> Cause:
    """Return what an error that Dagster keeps says: the first of ours that led to it, if any."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.cause
    if not chain:
        return KILLED
    return next((made for one in chain if (made := _ours(one))), _foreign(chain[-1]))


def _ours(error: SerializableErrorInfo) -> Cause | None:
    kind: type[Exception] | None = getattr(errors, error.cls_name or "", None)
    if kind is None or not error.message.startswith(f"{_OURS}{error.cls_name}: "):
        return None
    return Cause(kind.__name__, error.message.partition(": ")[2].strip(), kind)


def _foreign(error: SerializableErrorInfo) -> Cause:
    name = error.cls_name or "an error without a name"
    if name == DagsterAssetCheckFailedError.__name__:
        return Cause(name, "A check has stopped it. The alert of the check says what to do.")
    return Cause(name, f"It ended with {name}, whose text may hold values: read it on the page.")
