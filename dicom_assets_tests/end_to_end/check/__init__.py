"""`dicom-assets check`, green where all is well, and red once for each thing that is not."""
