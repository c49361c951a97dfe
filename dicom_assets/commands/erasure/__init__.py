"""`dicom-assets erased`: what still holds a study, and until when, in `report`."""
