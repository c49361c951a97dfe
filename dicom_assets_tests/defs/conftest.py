"""Fixtures of the tests that run the project through Dagster."""

from dicom_assets_tests.support.fixtures import *  # noqa: F403 - the fixtures, by its __all__
