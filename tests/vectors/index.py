"""The bodies of `index_v1.json`: two devices and what they say of two sessions, one of them without knowing of the other."""

from dataclasses import asdict
from typing import Any, Final

from consensus.ids import Millis, NodeId, SessionId
from node.store.index import Body, Index

MASTERS: Final = tuple(bytes(range(start, start + 32)) for start in (0x00, 0x20))
ONE, TWO = SessionId(bytes(range(0x40, 0x60))), SessionId(bytes(range(0x60, 0x80)))
NOW: Final = Millis(1_700_000_000_000)


def index_v1() -> dict[str, Any]:
    """Bodies in no particular order, and what they add up to."""
    desk = Index(MASTERS[:1], 1, lambda: bytes(8))
    laptop = Index(MASTERS, 2, lambda: bytes(range(8)))
    bodies: list[Body | None] = [
        desk.start(ONE, NOW, b"place"),
        desk.hold(ONE, NOW, "old"),
        desk.label(ONE, "Größe"),
        desk.note(ONE, NOW, "two\nlines"),
        desk.add_device(NodeId(ONE), NOW, "desk"),
    ]
    for body in bodies:
        laptop.take(body or b"")
    bodies += [
        laptop.release(ONE),
        desk.hold(ONE, Millis(NOW + 1), "new"),
        laptop.label(TWO, "x"),
        laptop.label(TWO, ""),
    ]
    bodies.append(laptop.start(TWO, NOW))
    known = Index(MASTERS, 3)
    made = [body for body in reversed(bodies) if body is not None]
    for body in made:
        known.take(body)
    entries = [
        asdict(entry) | {"session": entry.session.hex(), "dossier": (entry.dossier or b"").hex()}
        for entry in known.entries().values()
    ]
    origin = "Bodies of the session index of version 1 as first released, made by make.py with pycrdt 0.14.13."
    return {
        "origin": origin,
        "masters": [master.hex() for master in MASTERS],
        "bodies": [body.hex() for body in made],
        "entries": entries,
        "devices": {device.node.hex(): device.name for device in known.devices()},
    }
