"""`dicom-assets estimate`: what bringing in the missing hours takes.

`report` asks the service and the tables, and shows it; `effort` is the arithmetic.
"""
