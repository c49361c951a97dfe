"""From a header, the DICOM JSON of an instance, to the columns of `instance`."""
