"""What holds for every test: how hypothesis runs, and that no value of a patient is left behind.

Fixtures live in the folder that uses them.
"""

import os

from hypothesis import settings

# `make test` looks at the same examples every time, so that a change is judged by what it changed;
# `make soak` looks at new ones. Either way a failure prints the blob that replays it, and a slow
# machine is no failure.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
settings.register_profile("soak", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# No test leaves a patient's value outside the tables.
pytest_plugins = ("dicom_assets_tests.support.canary",)
