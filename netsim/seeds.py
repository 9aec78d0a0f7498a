"""Where randomness comes from: one seed, one independent generator for each purpose.

A generator is derived from the seed and the names of its purpose by BLAKE3, so that one more node, fault or check shifts
nobody else's draws: two runs that differ in one thing stay comparable.
"""

from random import Random

from blake3 import blake3

from consensus.encoding import encode


def derive(seed: int, *purpose: str | int | bytes) -> Random:
    """The generator of a purpose, the same wherever and in whatever order it is asked for; seed is 64 bits, signed."""
    return Random(int.from_bytes(blake3(encode([seed, *purpose])).digest()))  # noqa: S311 - a simulation, no secret
