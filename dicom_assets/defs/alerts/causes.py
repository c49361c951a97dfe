"""Why a run or a tick failed, in words that hold no patient value.

Our own errors say it with a remedy. Any other error is named by its class only, because its text
may quote a value.
"""

from dataclasses import dataclass

from dagster._core.errors import DagsterAssetCheckFailedError
from dagster_shared.error import SerializableErrorInfo

from dicom_assets import errors
from dicom_assets.defs.check_words import ReaderRole

# Errors that the next attempt may not meet again: a person is needed only when they last.
_PASSING = (
    errors.NotYetError,
    errors.ServiceUnavailableError,
    errors.ServiceAnswerError,
    errors.TableUnavailableError,
    errors.ConflictError,
)
# Errors that stay until a person acts.
_LASTING = (
    errors.SettingsError,
    errors.ServiceRefusedError,
    errors.ForeignTableError,
    errors.ForeignArchiveError,
    errors.DamagedTableError,
    errors.DoubledRowsError,
    errors.MiscountError,
)


@dataclass(frozen=True)
class Cause:
    """The name of an error's class, and the text for the alert; `error` is the class of ours."""

    name: str
    text: str
    error: type[Exception] = Exception

    @property
    def passes(self) -> bool:
        """True when the next attempt may succeed without a person."""
        return self.name == "" or issubclass(self.error, _PASSING)

    @property
    def lasts(self) -> bool:
        """True when the next attempt fails in the same way."""
        return issubclass(self.error, _LASTING)

    @property
    def reader(self) -> ReaderRole:
        """The role of those who have to act."""
        is_service = issubclass(self.error, errors.ServiceError)
        return ReaderRole.SERVICE if is_service else ReaderRole.PLATFORM


KILLED = Cause(
    "",
    "The run ended without an error: its process was killed, or its machine is gone. Look for "
    "memory limits (`dmesg`, the limits of the container) and for restarts.",
)


def cause_of(error: SerializableErrorInfo | None) -> Cause:
    """Return the first error of ours in a chain of causes, else its last error, else KILLED."""
    last = None
    while error is not None:
        kind: type[Exception] | None = getattr(errors, error.cls_name or "", None)
        # By its full name, because another library may have an error of the same class name.
        if kind and error.message.startswith(f"{errors.__name__}.{error.cls_name}: "):
            return Cause(kind.__name__, error.message.partition(": ")[2].strip(), kind)
        last, error = error, error.cause
    if last is None:
        return KILLED
    name = last.cls_name or "an error without a name"
    if name == DagsterAssetCheckFailedError.__name__:
        return Cause(name, "A check stopped the run. The alert of that check says what to do.")
    return Cause(name, f"It failed with {name}, whose text may hold values: read it on the page.")
