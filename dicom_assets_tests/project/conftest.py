"""The fixture that the examples of the documentation run on."""

from dicom_assets_tests.support.fixtures import clinic

__all__ = ["clinic"]
