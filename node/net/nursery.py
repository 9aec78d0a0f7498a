"""A nursery whose only error comes out as it is, so that callers can name what they catch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery; what one task or the body raises is raised bare, and only what several raised at once in a group."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:  # such as the Cancelled of each, when they are cancelled from outside
            raise
        error = group.exceptions[0]
        raise error from error.__cause__
