"""Tests of `dicom-assets fabric`."""
