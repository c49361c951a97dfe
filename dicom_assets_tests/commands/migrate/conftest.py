"""Fixtures of the tests of `migrate`: tables that the template left, and ours beside them."""

from dicom_assets_tests.tables.conftest import bench, store

__all__ = ["bench", "store"]
