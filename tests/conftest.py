"""What holds for every test: no byte leaves this machine, and how Hypothesis runs.

No clock decides an outcome, and the tiers try the same examples every time.
"""

import os

from hypothesis import HealthCheck, settings

from node.net.leaks import forbid_leaks
from tests.examples import EXAMPLES

forbid_leaks()  # no test may reach off this machine, whatever it tests

settings.register_profile(
    "lucid",
    max_examples=EXAMPLES,
    deadline=None,  # a loaded machine is slow, not wrong
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="LUCID_FUZZ" not in os.environ,  # only `./lucid fuzz` looks for new ones
    database=None,  # a failure is kept as an @example in the test, where everybody has it
    print_blob=True,
)
settings.load_profile("lucid")
