"""The tree of errors: a group holds the errors that are handled alike."""

import pytest

from dicom_assets import errors
from dicom_assets.errors import DicomAssetsError, ServiceError, TableError

GROUPS = {
    "SettingsError": DicomAssetsError,
    "NotYetError": DicomAssetsError,
    "ServiceError": DicomAssetsError,
    "MiscountError": DicomAssetsError,
    "FabricError": DicomAssetsError,
    "TableError": DicomAssetsError,
    "ServiceUnavailableError": ServiceError,
    "ServiceRefusedError": ServiceError,
    "ServiceAnswerError": ServiceError,
    "ForeignTableError": TableError,
    "ForeignArchiveError": TableError,
    "TableUnavailableError": TableError,
    "DamagedTableError": TableError,
    "DoubledRowsError": TableError,
    "ConflictError": TableError,
}


def defined() -> dict[str, type[BaseException]]:
    """Every error of the module, by name."""
    found = vars(errors).items()
    return {n: v for n, v in found if isinstance(v, type) and issubclass(v, BaseException)}


def test_every_error_is_in_the_tree() -> None:
    """None is defined beside it, and none is missing."""
    assert set(defined()) == {*GROUPS, "DicomAssetsError"}


@pytest.mark.parametrize(("name", "group"), GROUPS.items())
def test_an_error_belongs_to_one_group(name: str, group: type[DicomAssetsError]) -> None:
    """Its only parent is the group that says what to do."""
    assert defined()[name].__bases__ == (group,)


@pytest.mark.parametrize("name", ["DicomAssetsError", *GROUPS])
def test_the_tree_in_the_docstring_shows_every_error(name: str) -> None:
    """The first lines of the module show them all."""
    assert errors.__doc__ is not None
    assert name in errors.__doc__


def test_our_errors_are_nobody_elses() -> None:
    """An `except OSError` or `except ValueError` around us does not swallow one."""
    assert DicomAssetsError.__bases__ == (Exception,)
