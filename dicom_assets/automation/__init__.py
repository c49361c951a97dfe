"""What Dagster does by itself: jobs, their schedules, and sensors.

`hours` brings the tables to the hours of the feed, `audit` compares them with the service,
`columns` fills columns that were added, `maintenance` keeps files few and logs short.
"""
