"""The names that Dagster knows the default definitions by, in plain text: they do not change.

Switches, cursors and alert policies of people who upgrade belong to them.
"""

from dicom_assets.defs.names import Names
from dicom_assets.defs.schedules.check_jobs import check_jobs

SERVICE = "dicom_service"
QUALITY = "dicom_quality"
IO_MANAGER_KEY = "dicom_tables"
JOB = "dicom_tables"
REPORT = "dicom_report"
COLUMNS_JOB = "dicom_columns"
MAINTENANCE_JOB = "dicom_maintenance"
REOPENED = "dicom_reopened_hours"
ALERTS = "dicom_alerts"
HOURLY, AUDIT, DAILY = check_jobs(Names())
