"""A nursery whose error comes out as it is, so that callers can name what they catch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery; of what its tasks and body raise the first comes out, bare, and the others are lost with it.

    So for errors alone: an interruption from the keyboard, and a group that is nothing but cancelled, stay in their group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        _, errors = group.split(trio.Cancelled)
        if errors is None or not isinstance(errors, ExceptionGroup):
            raise
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__
