"""The change feed over HTTP, to Arrow: no Dagster, no Delta.

- `client`: the whole story: the light read, the header read, the clock.
- `light_read`: entries without headers, and the proof that a window is whole; `header_read`: the
  headers of a difference; `unreadable_headers`: a page that fails for one bad header.
- `listing`: keyset paging; `pages`: which pages hold the headers that are wanted; `decode`: a
  page's bytes to entries; `rows`: headers to rows.
- `search`: the service's search for studies (QIDO-RS) instead of the feed.
- `http`: ask one question until it is answered.

What a read brings is in `feed_contract`; what is done with it, in `tables`.
"""

from dicom_assets.feed.client import ChangeFeed

__all__ = ["ChangeFeed"]
