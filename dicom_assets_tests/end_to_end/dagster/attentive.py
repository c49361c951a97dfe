"""A code location like ours whose alerts look every few seconds."""

from dicom_assets.alerts import sensor
from dicom_assets.definitions import defs

__all__ = ["defs"]

sensor.SENSOR_SECONDS = 2
