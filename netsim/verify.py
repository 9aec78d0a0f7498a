"""Signatures in a simulation: each checked for real once, and then remembered.

A record that reaches a thousand nodes is checked a thousand times, at 60 µs each; the answer is always the same. So the
world's machines share one memory of (key, signature, message), and `--real-signatures` is the run without it.
"""

from typing import Final

from consensus.signing import verify_as_is

REMEMBERED_MAX: Final = 200_000
"""Signatures that are remembered, about 60 MB; the oldest is forgotten."""


class CachedVerify:
    """A machine.Verify that remembers its answers; real makes it check always."""

    __slots__ = ("checks", "limit", "real", "remembered", "reused")

    def __init__(self, *, real: bool = False, limit: int = REMEMBERED_MAX) -> None:
        self.real = real
        self.limit = limit
        self.remembered: dict[tuple[bytes, bytes, bytes], bool] = {}
        self.checks = 0
        self.reused = 0

    def __call__(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is the key's."""
        known = (public, signature, message)
        answer = self.remembered.get(known)
        if answer is not None:
            self.reused += 1
            return answer
        self.checks += 1
        answer = verify_as_is(public, signature, message)
        if not self.real:
            if len(self.remembered) >= self.limit:
                del self.remembered[next(iter(self.remembered))]
            self.remembered[known] = answer
        return answer
