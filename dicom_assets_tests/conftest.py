"""What holds for every test: how hypothesis runs. Fixtures live in the folder that uses them."""

from hypothesis import settings

# One profile for people and CI. Hypothesis' own "ci" would fix the seed; here every run looks at
# new examples, a failure prints the blob that replays it, and a slow machine is no failure.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci")
