"""Tests of `dicom-assets check`."""
