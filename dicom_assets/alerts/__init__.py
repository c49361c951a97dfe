"""Alerts: somebody is told when, and only when, something needs a person.

`sensor` looks once a minute; what is wrong is found in `results` (checks), `failures` (runs) and
`ticks` (schedules, sensors, daemons). `ledger` decides who is to be told what, without asking
anybody, and `channels` tells them by way of Apprise. Not here: what a check looks at (`checks`),
and when hours are asked for again (`automation`).
"""
