"""What the daemon tells systemd of itself: that it takes part, that it stops, and that it is alive (sd_notify).

A beat comes out of the daemon's own event loop: a loop that is stuck sends none, and systemd kills and restarts it.
Outside systemd all of it does nothing. Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import socket

import trio

from node.config import notify_socket, watchdog_s


def tell(state: str) -> None:
    """Send a state such as READY=1, where systemd started us and wants to be told."""
    name = notify_socket()
    if name is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), "\0" + name[1:] if name.startswith("@") else name)


async def beat() -> None:
    """Tell the watchdog that we are alive, twice as often as it asks, until cancelled; returns where there is none."""
    patience = watchdog_s()
    while patience is not None:
        tell("WATCHDOG=1")
        await trio.sleep(patience / 2)
