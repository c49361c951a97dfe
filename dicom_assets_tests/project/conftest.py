"""The fixtures that the examples of the documentation run on."""

from dicom_assets_tests.support.fixtures import clinic, first_demo

__all__ = ["clinic", "first_demo"]
