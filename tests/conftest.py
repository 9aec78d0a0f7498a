"""How every test runs Hypothesis: no clock decides an outcome, and CI tries the same examples every time."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "lucid",
    deadline=None,  # a loaded machine is slow, not wrong
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    database=None,  # a failure is kept as an @example in the test, where everybody has it
    print_blob=True,
)
settings.load_profile("lucid")
