"""`dicom-assets check`: is everything here that a run needs, and what is to be done where not?

`terminal` puts the looks in their order and shows their lines, `configuration` looks at settings
and versions, `instance` at Dagster's instance. The service is looked at in `feed.probe`, the
storage in `tables.probe`; what a line is, is in `probe`.
"""
