"""Alerts: messages to people about problems that need a person, and about their end.

- `sensor`: the sensor that looks once a minute.
- `failed_checks`, `failed_runs`, `silent_ticks`: the problems; `causes`: why a run or a tick
  failed, in words that hold no patient value; `watched`: the definitions that are watched.
- `ledger`: open alerts, and the messages that are due (pure).
- `channels`: delivery through Apprise; `heartbeat`: a monitor outside that notices silence.
"""
