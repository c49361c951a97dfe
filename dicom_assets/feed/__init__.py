"""The change feed over HTTP: no Dagster, no Delta.

`client` is the whole story: the light read, the heavy read, the clock. Below it: `light_read` and
`heavy_read`, `listing` (keyset paging), `connection` (one request, tried again until it is
answered), `auth` (who gets the token), `pages` (which pages hold the headers that are wanted),
`decode` (a page's bytes to entries), `header` (a header's bytes to columns). What a read brings is
in `reads`; what is done with it is in `tables`.
"""

from dicom_assets.feed.client import ChangeFeed

__all__ = ["ChangeFeed"]
