"""`dicom-assets migrate`: take over the tables that Data Factory's template wrote.

- `report`: what a person is told; `migration`: taking over; `comparison`: the template's tables
  against ours; `template`: how the template writes.
"""
