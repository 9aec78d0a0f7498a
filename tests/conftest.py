"""How every test runs Hypothesis: no clock decides an outcome, and the tiers try the same examples every time."""

import os

from hypothesis import HealthCheck, settings

from tests.examples import EXAMPLES

settings.register_profile(
    "lucid",
    max_examples=EXAMPLES,
    deadline=None,  # a loaded machine is slow, not wrong
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="LUCID_EXAMPLES" not in os.environ,  # only `./lucid fuzz` looks for new ones
    database=None,  # a failure is kept as an @example in the test, where everybody has it
    print_blob=True,
)
settings.load_profile("lucid")
