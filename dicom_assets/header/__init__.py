"""A header, the DICOM JSON of an instance, to the columns of `instance`.

- `extraction`: finds the values at the paths of a column.
- `marks`: how much JSON costs, before it is parsed.
- `values`: parses them by VR (PS3.5).
"""
