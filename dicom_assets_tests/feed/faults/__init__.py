"""The fault catalogue against the feed: each fault, and what must hold after it."""
