"""`dicom-assets find`: what is known of a study, series, instance or sequence, in `report`."""
