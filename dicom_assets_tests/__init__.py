"""Tests of dicom_assets: unit, end to end, property, components, and of the project itself."""
