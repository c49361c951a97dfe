"""Tests of `dicom-assets estimate`."""
