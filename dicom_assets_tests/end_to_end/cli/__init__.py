"""The command `dicom-assets`, started as a user starts it."""
