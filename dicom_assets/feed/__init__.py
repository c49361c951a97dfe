"""The change feed over HTTP, as Arrow tables. No Dagster and no Delta here.

- `client`: `ChangeFeed`, the entry point: light read, header read and clock.
- `light_read`: the entries of a window without headers, and the proof that none is missing.
- `header_read`: the headers of a difference. `unreadable_headers`: a page that fails because the
  service cannot read one of its headers.
- `listing`: paging. `decode`: bytes to entries. `rows`: entries to rows of `change` and `instance`.
- `search`: the service's search for studies (QIDO-RS).
- `http`: one request, retried until it is answered.

The result of a read is defined in `feed_contract` and used in `tables`.
"""

from dicom_assets.feed.client import ChangeFeed

__all__ = ["ChangeFeed"]
