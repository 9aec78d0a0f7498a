"""The vectors of storage receipts, challenges and placement, version 1, for make.py."""

from typing import Any

from blake3 import blake3

from consensus.beacon import Deposit, Receipt, challenge, receipt_id, replica_key, show, signable
from consensus.ids import Digest, Network, NodeId
from consensus.merkle import segment_root
from consensus.placement import MEMBERS_MAX, Registrant, first_holders, leader, lots, order, placement_key, watcher
from consensus.records import pack
from consensus.signing import KeyPair

NETWORK = Network(bytes(range(32)))
SECRET = bytes(range(0x40, 0x60))
CHUNK = Digest(blake3(b"sealed").digest())
SEED = Digest(blake3(b"seed").digest())
OWNER = KeyPair.from_seed(bytes(range(0x60, 0x80)))
HOLDER = KeyPair.from_seed(bytes(range(0x80, 0xA0)))
SIZE = 3 * 16384 + 77
REPLICA = blake3(b"replica 1").digest(length=SIZE)
ROOTS = (Digest(b"\x01" * 32), segment_root(REPLICA), Digest(b"\x03" * 32))

DEPOSIT = Deposit(NETWORK, CHUNK, SIZE, NodeId(OWNER.public), 1 << 33, SEED, ROOTS)
RECEIPT = Receipt(
    NETWORK, CHUNK, 1, ROOTS[1], SIZE, NodeId(HOLDER.public), NodeId(OWNER.public), 1 << 33, (1 << 33) + 9
)
REGISTRY = tuple(
    sorted(
        Registrant(NodeId(blake3(b"node" + bytes([number])).digest()), b"entity %d" % (number // 2), number * 1000)
        for number in range(60)
    )
)


def beacon_v1() -> dict[str, Any]:
    """One of everything: keys, records with their signatures, drawn segments, an answer, orders, lots."""
    holders = tuple(sorted(one.node for one in REGISTRY[:MEMBERS_MAX]))
    drawn = lots(NETWORK, SEED, CHUNK, 1 << 33)
    keys = [placement_key(NETWORK, SEED, CHUNK, j) for j in range(3)]
    return {
        "origin": "Storage receipts, challenges and placement of version 1 as first released, made by make.py.",
        "network": NETWORK.hex(),
        "secret": SECRET.hex(),
        "chunk": CHUNK.hex(),
        "seed": SEED.hex(),
        "replica_keys": [replica_key(SECRET, CHUNK, j).hex() for j in range(3)],
        "deposit": pack(DEPOSIT).hex(),
        "deposit_signature": OWNER.sign("deposit", NETWORK, pack(DEPOSIT)).hex(),
        "receipt": pack(RECEIPT).hex(),
        "receipt_signable": signable(RECEIPT).hex(),
        "receipt_id": receipt_id(RECEIPT).hex(),
        "receipt_signature": HOLDER.sign("receipt", NETWORK, pack(RECEIPT)).hex(),
        "challenges": [
            {
                "hour": hour,
                "size": size,
                "segments": list(challenge(NETWORK, SEED, receipt_id(RECEIPT), hour, size)),
            }
            for hour, size in ((0, 1), (5, 32 * 16384), (5, 32 * 16384 + 1), (1 << 33, 16_000_000), (6, 1 << 25))
        ],
        "answer": [
            {"number": part.number, "bytes": blake3(part.data).hexdigest(), "proof": [one.hex() for one in part.proof]}
            for part in show(REPLICA, (0, 2, 3))
        ],
        "registry": [[one.node.hex(), one.entity.hex(), one.capacity] for one in REGISTRY],
        "placement_keys": [key.hex() for key in keys],
        "orders": [[node.hex() for node in order(key, REGISTRY, 20_000, 10)] for key in keys],
        "first_holders": [
            None if node is None else node.hex()
            for node in first_holders(NETWORK, SEED, CHUNK, 20_000, b"entity 20", REGISTRY)
        ],
        "lots": drawn.hex(),
        "watchers": [watcher(drawn, holders, at, NodeId(OWNER.public)).hex() for at in range(len(holders))],
        "leader": leader(drawn, holders).hex(),
    }
