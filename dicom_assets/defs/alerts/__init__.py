"""Alerts: tell a person when, and only when, something needs one.

- `sensor`: looks once a minute.
- `failed_checks`, `failed_runs`, `silent_ticks`: the problems it looks for; `causes`: why a run
  failed, in words that hold no value; `watched`: the definitions that are watched.
- `ledger`: whom to tell what, and when it is over (pure).
- `channels`: delivery through Apprise; `heartbeat`: a monitor outside that notices silence.
"""
