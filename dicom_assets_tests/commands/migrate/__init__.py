"""Tests of `dicom-assets migrate`."""
