"""The change feed over HTTP: no Dagster, no Delta.

Start at `client.ChangeFeed`. Below it: `light_read` and `heavy_read`, the two ways to read;
`pages`, which pages hold the headers that are wanted; `listing`, how pages follow one another;
`connection` and `auth`, how a request survives the network and who gets the token; `decode` and
`header`, how bytes become entries and columns. What is done with the rows is in `tables`.
"""

from dicom_assets.feed.client import ChangeFeed
from dicom_assets.feed.decode import Rejection
from dicom_assets.feed.heavy_read import Headers
from dicom_assets.feed.light_read import Entries

__all__ = ["ChangeFeed", "Entries", "Headers", "Rejection"]
