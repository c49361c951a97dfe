"""Ask the service once, reliably.

- `connection`: one question, asked until it is answered; `answers`: what each answer means (the
  retry matrix).
- `timeouts`: every deadline and pause; `deadline` and `body`: no answer is later or larger than
  allowed; `throttle`: how many ask at once.
- `auth`: who gets the token.
"""
