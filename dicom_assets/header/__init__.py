"""From a header, the DICOM JSON of an instance, to the columns of `instance`.

`extraction` finds the values at a column's paths; `values` parses them by VR (PS3.5).
"""
