"""`dicom-assets check`: is everything here that a run needs, and what to do where not?

- `report`: the probes in their order, and their lines in the terminal; `probe`: what a probe is.
- `configuration`: settings and versions; `service`: the DICOM service, with `handshake` (name and
  TLS) and `token` (claims); `storage`: the tables; `dagster_instance`: Dagster.
"""
