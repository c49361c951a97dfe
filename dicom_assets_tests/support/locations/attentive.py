"""A code location like ours whose alerts look every few seconds."""

from dicom_assets.definitions import defs
from dicom_assets.defs.alerts import sensor

__all__ = ["defs"]

sensor.ALERTS_SECONDS = 2
