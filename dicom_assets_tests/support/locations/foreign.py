"""Somebody else's code location, with an executor and an asset of theirs, and ours merged in."""

import dagster as dg

from dicom_assets.definitions import build_definitions
from dicom_assets.settings import Settings


@dg.asset
def theirs() -> None:
    """An asset of somebody else."""


defs = dg.Definitions.merge(
    dg.Definitions(assets=[theirs], executor=dg.multiprocess_executor),
    build_definitions(Settings.from_environment(), key_prefix=["imaging", "pacs"]),
)
