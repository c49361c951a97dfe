"""Fixtures of the histories that are told to a Dagster on disk."""

from dicom_assets_tests.support.fixtures import *  # noqa: F403 - the fixtures, by its __all__
