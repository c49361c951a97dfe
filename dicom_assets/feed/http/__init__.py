"""One request to the service, retried until it is answered whole or refused.

- `connection`: the request and its retries. `answers`: the retry matrix.
- `timeouts`: every deadline and pause. `deadline` and `body`: no answer takes longer or is larger
  than allowed. `throttle`: the number of requests in flight.
- `auth`: the requests that carry a token.
"""
