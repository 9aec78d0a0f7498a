"""pair and init --pair as they are typed: the second device has the owner's keys and a name of its own, or nothing happened."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consensus.ids import Millis, NodeId
from node.cli import main
from node.config import Home
from node.keys import unlock
from node.membership import joined
from node.wallet.pairing import CODE_LETTERS, Offer, new_code, seal
from tests.node.test_network_commands import Typed, typed

__all__ = ["typed"]
pytestmark = pytest.mark.component
BARE = "--insecure-plaintext-keys"


@pytest.fixture
def offered(typed: Typed, tmp_path: Path) -> dict[str, Any]:
    """An offer of the home "a", which is in a network; its file and a file with its code."""
    network = tmp_path / "network"
    assert typed("a", "network", "create", "first", "--mode", "sandbox", "--out", network)[0] == 0
    assert typed("a", "network", "join", network)[0] == 0
    code, facts, _ = typed("a", "pair", "offer", "--out", tmp_path / "offer", "--name", "desk")
    assert code == 0
    (tmp_path / "code").write_text(facts["code"])
    return facts


def paired(typed: Typed, folder: Path, home: str, offer: str = "offer", code: str = "code") -> tuple[int, Any, str]:
    return typed(home, "init", BARE, "--pair", folder / offer, "--code-file", folder / code, "--name", home)


def test_a_second_device_has_the_owners_keys_and_an_identity_of_its_own(
    offered: dict[str, Any], typed: Typed, tmp_path: Path
) -> None:
    file = tmp_path / "offer"
    assert 3_500_000 < offered["expires"] - time.time() * 1000 <= 3_600_000
    first = unlock(Home(tmp_path / "a"), None)
    copy = file.read_text()
    assert not any(master.hex() in copy for master in first.masters)
    code, facts, _ = paired(typed, tmp_path, "laptop")
    assert (code, facts["paired_with"]) == (0, first.identity.public.hex())
    second = unlock(Home(tmp_path / "laptop"), None)
    assert second.masters == first.masters
    assert len({first.identity_seed, second.identity_seed, first.account_key, second.account_key}) == 4
    assert joined(Home(tmp_path / "laptop")) == joined(Home(tmp_path / "a")), "the offer brings the network"
    code, listed, _ = typed("laptop", "pair", "devices")
    assert code == 0
    names = [(row["name"], row["node"]) for row in listed["devices"]]
    assert names == [("desk", first.identity.public.hex()), ("laptop", second.identity.public.hex())]
    assert [row["offer"] for row in listed["devices"]] == [None, offered["offer"]]

    # Once: its file is gone. Who kept a copy is seen.
    assert not file.exists()
    code, _, said = paired(typed, tmp_path, "third")
    assert (code, "an offer is used once" in said) == (3, True)
    assert not (tmp_path / "third").exists()


def test_an_offer_that_was_copied_and_used_twice_shows(offered: dict[str, Any], typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text((tmp_path / "offer").read_text())
    assert paired(typed, tmp_path, "laptop")[0] == paired(typed, tmp_path, "thief", "copy")[0] == 0
    tell(tmp_path / "thief", tmp_path / "laptop")
    code, listed, _ = typed("laptop", "pair", "devices")
    assert (code, listed["ok"]) == (1, False)
    assert {row["name"]: row["reused"] for row in listed["devices"]} == {"desk": False, "laptop": True, "thief": True}


def tell(home: Path, other: Path) -> None:
    """What one home owes its log, taken by another."""
    import trio

    from node.config import Config
    from node.sessions.annotations import Annotations
    from node.sessions.desk import opened

    async def carry() -> None:
        bodies: list[bytes] = []
        for one in (home, other):
            secrets = unlock(Home(one), None)
            async with opened(Home(one), Config(), secrets) as desk:
                annotations = Annotations(desk.store, desk.chunks, secrets)
                await annotations.take(bodies)
                bodies += await annotations.owed()

    trio.run(carry)


Break = Callable[[Path], None]


def expire(folder: Path) -> None:
    now, code = Millis(time.time_ns() // 1_000_000), new_code()
    offer = Offer(NodeId(b"n" * 32), "desk", now, (b"m" * 32,), b"")
    (folder / "offer").write_text(seal(offer, code, now)[1])
    (folder / "code").write_text(code)


def change(folder: Path) -> None:
    text = (folder / "offer").read_text()
    (folder / "offer").write_text(f"{text[:-30]}{'A' if text[-30] != 'A' else 'B'}{text[-29:]}")


@pytest.mark.parametrize(
    ("breaks", "code", "sentence"),
    [
        (lambda folder: (folder / "code").write_text("0" * CODE_LETTERS), 1, "the code is wrong"),
        (lambda folder: (folder / "code").write_text("0123"), 2, "a pairing code has 16 letters"),
        (
            lambda folder: (folder / "offer").write_text("lucid-pair:AAAA"),
            2,
            "this is no offer to pair a device, or it was damaged",
        ),
        (lambda folder: (folder / "offer").write_bytes(bytes(range(256))), 2, "is no offer to pair a device"),
        (change, 1, "the code is wrong, or the offer was changed"),
        (expire, 1, "the offer has expired"),
    ],
)
def test_what_does_not_open_leaves_everything_as_it_was(
    breaks: Break, code: int, sentence: str, offered: dict[str, Any], typed: Typed, tmp_path: Path
) -> None:
    breaks(tmp_path)
    before = (tmp_path / "offer").read_bytes()
    found, _, said = paired(typed, tmp_path, "laptop")
    assert (found, said.count("\n")) == (code, 1)
    assert sentence in said
    assert not (tmp_path / "laptop").exists()
    assert (tmp_path / "offer").read_bytes() == before


def test_the_text_of_the_qr_code_does_as_well_and_a_home_is_never_overwritten(
    offered: dict[str, Any], typed: Typed, tmp_path: Path
) -> None:
    text = (tmp_path / "offer").read_text().strip()
    words = ("init", BARE, "--pair", text.upper(), "--code-file", tmp_path / "code")
    assert typed("b", *words)[0] == 2, "a home is there"
    assert typed("c", *words, "--network", tmp_path / "network")[0] == 2, "the offer names it"
    assert not (tmp_path / "c").exists()
    assert typed("c", *words)[0] == 0
    assert unlock(Home(tmp_path / "c"), None).masters == unlock(Home(tmp_path / "a"), None).masters
    assert typed("a", "pair", "offer", "--out", tmp_path / "offer")[0] == 2, "a file is there"
    assert typed("b", "pair", "devices")[1]["devices"] == []
    assert main(["--home", str(tmp_path / "nowhere"), "pair", "devices"]) == 3
