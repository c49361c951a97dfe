"""The change feed over HTTP: no Dagster, no Delta.

`client` is the whole story: the light read, the heavy read, the clock. Below it: `light_read` and
`heavy_read`, `poison` (a page that fails for one bad header), `listing` (keyset paging),
`connection` (one question, asked until it is answered), `answers` (what each answer means: the
retry matrix), `patience` (every deadline and pause), `throttle` (how many ask at once), `deadline`
and `body` (no answer is later or larger than allowed), `auth` (who gets the token), `pages` (which
pages hold the headers that are wanted), `decode` (a page's bytes to entries), `header` (a header's
bytes to columns). `counts` asks the service's search instead of the feed. `probe` looks, for
`dicom-assets check`, whether all this is possible from here (`handshake`: name and TLS, `claims`:
the token). What a read brings is in `reads`; what is done with it is in `tables`.
"""

from dicom_assets.feed.client import ChangeFeed

__all__ = ["ChangeFeed"]
