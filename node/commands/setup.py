"""init: a home made."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from node.appliance.machine import free_bytes
from node.commands.keyring import put, say_keys
from node.commands.networks import check_file
from node.config import Home
from node.console import Console
from node.exits import DONE, Usage
from node.keys import new_passphrase
from node.membership import carrier_of, keep
from node.wallet.vault import Secrets, close

if TYPE_CHECKING:
    from node.commands.pairing import TakenOffer

QUOTA_GB_MAX: Final = 50
"""Offered at most, and a fifth of what is free."""


def init(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Make a home with new keys, in a network if one is given; refuses to overwrite one."""
    if home.vault.exists():
        raise Usage(f"{home.path} is a node's home already; choose another with --home, nothing was changed")
    pair = _taken_offer(args)
    network = check_file(args.network) if args.network else pair.network if pair else None
    quota = _quota(args, home, console, joins=network is not None)
    phrase = None if args.insecure_plaintext_keys else new_passphrase(args.passphrase_file, "the key vault")
    secrets = pair.secrets() if pair else Secrets.generate()
    data = close(secrets, phrase)
    home.create({} if quota is None else {"quota_gb": quota, "replicas_gb": quota})
    if network is not None:
        carrier_of(home, network[1])
        keep(home, network[0], first=not home.network.exists())
    if pair is not None:
        pair.introduce(home, secrets)
    put(home.vault, data)  # the last: a home counts as one from here on
    if phrase is None:
        console.warn("the keys stand in the clear: for tests only")
    console.say(f"Made {home.path}.")
    if network is not None:
        console.say(f"  network   {network[1].genesis.name} {network[1].network.hex()}")
    if quota is not None:
        console.say(f"  disk      {quota} GB for your own chunks, {quota} GB for those of others (config.toml)")
    more: dict[str, object] = {"network": network[1].network if network else None, "quota_gb": quota}
    if pair is not None:
        pair.end(console)
        more["paired_with"] = pair.offer.origin
    say_keys(home, secrets, console, more)
    console.say("Back the keys up now: `lucid-node keys export --out FILE`. Without them no recording can be played.")
    return DONE


def _taken_offer(args: argparse.Namespace) -> "TakenOffer | None":
    """With --pair, what another device of the owner offers; loaded only then."""
    if not args.pair:
        return None
    from node.commands.pairing import take

    return take(args)


def _quota(args: argparse.Namespace, home: Home, console: Console, *, joins: bool) -> int | None:
    """How many GB the node may take for its own chunks, and as many for others'; None leaves the settings as they come."""
    if args.quota_gb is not None or not joins:
        chosen: int | None = args.quota_gb
        return chosen
    usual = max(1, min(QUOTA_GB_MAX, free_bytes(home) // 5_000_000_000))
    if console.as_json or not sys.stdin.isatty():
        return usual
    answer = input(f"Gigabytes of disk for your own chunks, and as many for those of others [{usual}]: ").strip()
    if not answer.isascii() or not (answer or "0").isdigit() or len(answer) > 6:
        raise Usage(f"{answer} is no number of gigabytes; nothing was changed")
    return int(answer or usual)
