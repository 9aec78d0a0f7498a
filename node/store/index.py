"""The owner's session index: what its devices say of sessions, merged in any order, and sealed wherever it leaves a process.

    body = 02 ‖ key id 8 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, CBOR [heads, covers, Yjs update], ad = label ‖ head)
    key id ‖ key ‖ nonce key = Expand(Extract(label, master key), label)          nonce = BLAKE3-keyed(nonce key, plain)

A body is a transaction of one device, or the whole document. Strangers keep bodies for the owner and read nothing of them.
Yjs updates carry no authentication (a fifth of 20,000 mutated ones was accepted), so none reaches pycrdt that was not sealed
under a master key of the owner. The key is named by an id that follows from it: after a rotation older bodies still open.

Bodies come in any order, and are merged in one that keeps causes before effects: each names, by 8 bytes of BLAKE3, the
`heads` that its device had merged when it wrote, and waits until they are there; the whole document names all that it
`covers` and waits for nothing. Left to themselves Yjs and yrs lose map keys when an update comes before what it builds on
(yjs #461, y-crdt #413; with pycrdt 0.14.13 in 6 % of 20,000 random histories, with causes first in none of 40,000).

Each opening writes under a client id of its own. One that is kept would write two histories once a disk is restored
from a backup; a fresh one costs some 15 bytes.

    root        key               value, canonical CBOR
    labels      session           text                       the last one wins
    started     session           ms
    dossiers    session           bytes, the caller's
    notes       session/id        [ms, text]                 all that were added
    holds       session/id        [ms, reason]               a release takes away the holds that its device knew of
    devices     node              [ms, name], and third the offer by which it was paired (node/wallet/pairing)

Roots are flat: a map made for a session on two devices at once would be one device's only. Holds are a set, since a hold
that was set while another device released an older one has to last. Source: DESIGN §5.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NewType, TypeAlias

from blake3 import blake3
from pycrdt import Doc, Map, TransactionEvent

from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Millis, NodeId, SessionId
from pipeline.seal import RecordKey, Unauthentic, expand, extract

KIND: Final = b"\x02"
LABEL: Final = b"lucid/index/v1"
TEXT_MAX: Final = 2000
"""Characters of a label, a note or a reason."""
DOSSIER_BYTES_MAX: Final = 2048
NAME_MAX: Final = 64
ID_BYTES: Final = 32
_ID: Final = 8
_NAME: Final = 8
_HEAD: Final = len(KIND) + _ID
_ROOTS: Final = ("labels", "started", "dossiers", "notes", "holds", "devices")

Body = NewType("Body", bytes)
_Values: TypeAlias = "Map[bytes]"


@dataclass(frozen=True, slots=True)
class Remark:
    """A note, or a legal hold with its reason."""

    at: Millis
    text: str


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What the owner's devices say of one session."""

    session: SessionId
    label: str = ""
    started: Millis | None = None
    dossier: bytes | None = None
    notes: tuple[Remark, ...] = ()
    holds: tuple[Remark, ...] = ()

    @property
    def legal_hold(self) -> bool:
        """Whether any device holds it."""
        return bool(self.holds)


class Device(NamedTuple):
    """A device of the owner; no offer for one that was there before."""

    at: Millis
    node: NodeId
    name: str
    offer: bytes = b""


class Index:
    """The index as one device knows it; an edit returns the body that tells the others, None when it changed nothing."""

    def __init__(
        self, masters: Sequence[bytes], client: int | None = None, one_use: Callable[[], bytes] = lambda: os.urandom(8)
    ) -> None:
        self._keys = dict(_derive(master) for master in masters)
        self._newest = _derive(masters[-1])
        self._one_use = one_use
        self._doc = Doc[_Values](client_id=int.from_bytes(os.urandom(6), "big") if client is None else client)
        self._roots: dict[str, _Values] = {name: self._doc.get(name, type=Map) for name in _ROOTS}
        self._updates: list[bytes] = []
        self._merged = dict[bytes, None]()
        self._heads = dict[bytes, None]()
        self._waiting: dict[bytes, _Said] = {}
        self._observed = self._doc.observe(self._note_update)

    def _note_update(self, event: TransactionEvent) -> None:
        self._updates.append(bytes(event.update))

    # What others said

    def take(self, body: bytes) -> bool:
        """Merge a body, now or when what it builds on has come; False for another kind, or a key that this vault lacks.

        Raises Malformed for every body that the owner's devices did not seal as it is.
        """
        if body[:1] != KIND:
            return False
        name = named(body)
        if name in self._merged or name in self._waiting:
            return True
        head = body[:_HEAD]
        if len(body) < _HEAD + RecordKey.OVERHEAD:
            raise Malformed("an index body that was cut short")
        key = self._keys.get(head[1:])
        if key is None:
            return False
        try:
            self._waiting[name] = _Said.read(key.open(body[_HEAD:], LABEL + head))
        except Unauthentic:
            raise Malformed("an index body that was changed") from None
        while ready := [
            one for one, said in self._waiting.items() if said.covers is not None or said.heads <= self._merged.keys()
        ]:
            for one in ready:
                self._merge(one, self._waiting.pop(one))
        return True

    def _merge(self, name: bytes, said: "_Said") -> None:
        try:
            self._doc.apply_update(said.update)
        except ValueError as error:
            raise Malformed(f"an index body that this program does not read: {error}") from error
        if said.covers is not None:
            left = [one for one in self._heads if one not in said.covers or one in said.heads]
            self._heads = dict.fromkeys([*left, *sorted(said.heads - self._merged.keys())])
            self._merged |= dict.fromkeys(sorted(said.covers))
            self._merged[name] = None
        else:
            self._follow(name, said.heads)

    def _follow(self, name: bytes, heads: frozenset[bytes]) -> None:
        for one in heads:
            self._heads.pop(one, None)
        self._merged[name] = self._heads[name] = None

    def merged(self, body: bytes) -> bool:
        """Whether all that a body says is known; one that waits for another is not."""
        return named(body) in self._merged

    @property
    def waiting(self) -> int:
        """How many bodies were taken and build on others that have not come."""
        return len(self._waiting)

    # What is known

    def entries(self) -> dict[SessionId, IndexEntry]:
        """Every session of which something is said, in the order of ids; what a newer program wrote differently is left out."""
        rows: dict[SessionId, dict[str, object]] = defaultdict(dict)
        for root, name, kind in (("labels", "label", str), ("started", "started", int), ("dossiers", "dossier", bytes)):
            for (session,), value in self._rows(root, 1):
                if type(value) is kind:
                    rows[SessionId(session)][name] = value
        for root in ("notes", "holds"):
            found: dict[SessionId, list[tuple[int, bytes, str]]] = defaultdict(list)
            for (session, one), value in self._rows(root, 2):
                match value:
                    case [int(at), str(text)]:
                        found[SessionId(session)].append((at, one, text))
                    case _:
                        pass
            for session, remarks in found.items():
                rows[session][root] = tuple([Remark(Millis(at), text) for at, _, text in sorted(remarks)])
        return {session: IndexEntry(session, **rows[session]) for session in sorted(rows)}  # type: ignore[arg-type]

    def devices(self) -> list[Device]:
        """The owner's devices in the order in which they were added; empty for one that was never paired."""
        found = []
        for (node,), value in self._rows("devices", 1):
            match value:
                case [int(at), str(name)]:
                    found.append(Device(Millis(at), NodeId(node), name))
                case [int(at), str(name), bytes(offer)]:
                    found.append(Device(Millis(at), NodeId(node), name, offer))
                case _:
                    pass
        return sorted(found)

    def _rows(self, root: str, parts: int) -> Iterator[tuple[list[bytes], Value]]:
        for key, value in self._roots[root].items():
            try:
                place, held = [bytes.fromhex(part) for part in key.split("/")], decode(bytes(value))
            except (ValueError, Malformed):
                continue
            if len(place) == parts and len(place[0]) == ID_BYTES:
                yield place, held

    # What this device says

    def whole(self) -> Body:
        """Everything that is merged, as one body."""
        return self._seal(_Said(frozenset(self._heads), frozenset(self._merged), self._doc.get_update()))

    def label(self, session: SessionId, text: str) -> Body | None:
        """Call a session so; an empty text takes the label away. Raises ValueError for a text that is too long."""
        return self._set("labels", session.hex(), _checked(text) or None)

    def start(self, session: SessionId, started: Millis, dossier: bytes | None = None) -> Body | None:
        """Say when a session was started, and where its dossier lies; raises ValueError for one over 2 KiB."""
        if dossier is not None and len(dossier) > DOSSIER_BYTES_MAX:
            raise ValueError(f"a dossier's place has {DOSSIER_BYTES_MAX} bytes at most")
        with self._transaction() as said:
            self._put("started", session.hex(), int(started))
            if dossier is not None:
                self._put("dossiers", session.hex(), dossier)
        return said()

    def note(self, session: SessionId, at: Millis, text: str) -> Body | None:
        """Add a note; raises ValueError for a text that is too long or empty."""
        return self._set("notes", self._fresh(session), [int(at), _checked(text, least=1)])

    def hold(self, session: SessionId, at: Millis, reason: str) -> Body | None:
        """Put a legal hold on a session; raises ValueError for a reason that is too long."""
        return self._set("holds", self._fresh(session), [int(at), _checked(reason)])

    def release(self, session: SessionId) -> Body | None:
        """Take away all holds on a session that this device knows of."""
        with self._transaction() as said:
            for key, _ in [*self._roots["holds"].items()]:
                if key.startswith(f"{session.hex()}/"):
                    self._put("holds", key, None)
        return said()

    def add_device(self, node: NodeId, at: Millis, name: str, offer: bytes = b"") -> Body | None:
        """List a device of the owner, and by which offer it came; raises ValueError for a name that is too long."""
        value: list[Value] = [int(at), _checked(name, most=NAME_MAX)]
        return self._set("devices", node.hex(), [*value, offer] if offer else value)

    def _fresh(self, session: SessionId) -> str:
        return f"{session.hex()}/{self._one_use().hex()}"

    def _set(self, root: str, key: str, value: "Value | None") -> Body | None:
        with self._transaction() as said:
            self._put(root, key, value)
        return said()

    def _put(self, root: str, key: str, value: "Value | None") -> None:
        values = self._roots[root]
        held = values.get(key)
        if value is None:
            if held is not None:
                del values[key]
        elif held is None or bytes(held) != encode(value):
            values[key] = encode(value)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[[], Body | None]]:
        self._updates.clear()  # those of bodies that were taken
        with self._doc.transaction():
            yield self._said

    def _said(self) -> Body | None:
        """The body of the transaction that has just ended."""
        if not self._updates:
            return None
        heads = frozenset(self._heads)
        body = self._seal(_Said(heads, None, self._updates.pop()))
        self._follow(named(body), heads)
        return body

    def _seal(self, said: "_Said") -> Body:
        head = KIND + self._newest[0]
        return Body(head + self._newest[1].seal(said.spell(), LABEL + head))


def read(masters: Sequence[bytes], bodies: Iterable[bytes]) -> Index:
    """The index that bodies add up to, without those that no device of the owner sealed."""
    index = Index(masters)
    for body in bodies:
        taken(index, body)
    return index


def told(entry: IndexEntry) -> dict[str, Any]:
    """What is said of a session, as --json tells it."""
    return {
        "session": entry.session.hex(),
        "started": entry.started,
        "label": entry.label,
        "notes": [{"at": note.at, "text": note.text} for note in entry.notes],
        "holds": [{"at": hold.at, "reason": hold.text} for hold in entry.holds],
        "legal_hold": entry.legal_hold,
    }


def taken(index: Index, body: bytes) -> bool:
    """Whether a body is the owner's; it is merged then."""
    try:
        return index.take(body)
    except Malformed:
        return False


@dataclass(frozen=True, slots=True)
class _Said:
    """What is sealed in a body; `covers` is None unless it is the whole document."""

    heads: frozenset[bytes]
    covers: frozenset[bytes] | None
    update: bytes

    def spell(self) -> bytes:
        return encode([_listed(self.heads), None if self.covers is None else _listed(self.covers), self.update])

    @classmethod
    def read(cls, plain: bytes) -> "_Said":
        match decode(plain):
            case [list(heads), list() | None as covers, bytes(update)]:
                return cls(_names(heads), None if covers is None else _names(covers), update)
            case _:
                raise Malformed("an index body of a newer program")


def _listed(names: frozenset[bytes]) -> list[Value]:
    return [*sorted(names)]


def _names(values: list[Value]) -> frozenset[bytes]:
    names = [one for one in values if isinstance(one, bytes) and len(one) == _NAME]
    if len(names) < len(values):
        raise Malformed("an index body of a newer program")
    return frozenset(names)


def named(body: bytes) -> bytes:
    """What others call a body by: 8 bytes of its BLAKE3."""
    return blake3(body).digest(length=_NAME)


def _derive(master: bytes) -> tuple[bytes, RecordKey]:
    whole = expand(extract(LABEL, master), LABEL, _ID + 64)
    return whole[:_ID], RecordKey(whole[_ID : _ID + 32], whole[_ID + 32 :])


def _checked(text: str, *, least: int = 0, most: int = TEXT_MAX) -> str:
    if not least <= len(text) <= most:
        raise ValueError(f"a text has {least or 'no'} to {most} characters")
    if not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("a text has no control characters")
    return text
