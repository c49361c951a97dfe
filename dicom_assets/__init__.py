"""dicom_assets keeps three analytics tables in step with a DICOM service, through Dagster.

Start at `definitions.build_definitions`; the flow of the data is in `assets`.
"""
