"""Fixtures of the tests that open what earlier releases left behind."""

from dicom_assets_tests.support.fixtures import *  # noqa: F403 - the fixtures, by its __all__
