"""The transport that a network prescribes, opened for one home: Tor, or loopback for devnets.

    HOME/onion          32 bytes, the seed of our onion: a key of its own, so that it can change while the identity stays
    HOME/rpc.onion      the same for the onion of the JSON-RPC
    HOME/onion.socket   where tor hands over who comes through it
    HOME/torrc          torrc lines of a private Tor network, where devnets and tests put them; else it is the public one
    HOME/tor/           what a tor of our own keeps

Source: DESIGN §4; findings/tor.md §6, §8.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from node.config import Config, Home
from node.exits import Unavailable, Usage
from node.log import EventLog
from node.membership import carrier_of
from node.net.endpoints import BadEndpoint, Endpoint, parse_endpoint
from node.net.loopback import Loopback
from node.net.multiaddrs import written_out
from node.net.swarm import Transport
from node.network import Carrier, NetworkTerms
from node.tor.control import target
from node.tor.interface import SYSTEM_SOCKS, ExternalOnion, ManagedTor, SystemTor, Tor, TorLimits, TorOutdated
from node.tor.onion import BadOnion, onion_of, parse_onion
from node.tor.process import NoTorProcess
from node.tor.supervisor import open_tor
from node.tor.transport import Onions, multiaddr
from pipeline import durable

SEED_BYTES = 32
BACKEND = "onion.socket"
RPC_SEED: Final = "rpc.onion"
PRIVATE: Final = TorLimits(heartbeat_s=5, answer_s=5)
"""Of a private network, whose tors run where little else does: a frozen one is killed within 25 s instead of 55."""


class Carried(NamedTuple):
    """An open transport, and the tor under it, if any."""

    transport: Transport
    tor: Tor | None


@asynccontextmanager
async def carrier(home: Home, config: Config, terms: NetworkTerms, log: EventLog) -> AsyncIterator[Carried]:
    """The transport, as long as the block runs; raises Unavailable, Usage."""
    if carrier_of(home, terms) is Carrier.LOOPBACK:
        yield Carried(Loopback(int(config.listen.rpartition(":")[2])), None)
        return
    torrc = home.path / "torrc"
    mode = _mode(home, config, torrc.read_text() if torrc.exists() else "")
    limits = replace(PRIVATE if torrc.exists() else TorLimits(), allow_outdated=config.tor_allow_outdated)
    try:
        async with open_tor(mode, limits) as tor:
            log.info("tor.opened", mode=config.tor_mode)
            yield Carried(_onions(home, mode, tor), tor)
    except (TorOutdated, NoTorProcess, BadEndpoint) as error:
        raise Unavailable(str(error)) from error


def _mode(home: Home, config: Config, torrc: str) -> ManagedTor | SystemTor | ExternalOnion:
    if config.tor_mode == "system":
        socks = _endpoint("tor.socks", config.tor_socks) if config.tor_socks else SYSTEM_SOCKS
        return SystemTor(_endpoint("tor.control", config.tor_control), socks, private=bool(torrc))
    if config.tor_mode == "external":
        name, _, port = config.tor_onion.rpartition(":")
        try:
            onion = parse_onion(name)
        except BadOnion as error:
            raise Usage(f"tor.onion: {error}") from error
        backend = home.path / BACKEND if config.listen.endswith(":0") else _endpoint("network.listen", config.listen)
        return ExternalOnion(onion, backend, int(port), _endpoint("tor.socks", config.tor_socks))
    return ManagedTor(home.path / "tor", torrc)


def _endpoint(setting: str, text: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except BadEndpoint as error:
        raise Usage(f"{setting}: {error}") from error


def _onions(home: Home, mode: ManagedTor | SystemTor | ExternalOnion, tor: Tor) -> Onions:
    if isinstance(mode, ExternalOnion):
        return Onions(tor, bytes(SEED_BYTES), mode.backend, port=mode.port, onion=mode.onion)
    target(home.path / BACKEND)
    return Onions(tor, onion_seed(home), home.path / BACKEND)


def own_address(home: Home, carrier: Carrier) -> str:
    """The multiaddr at which this home's daemon is met, known before it runs; raises Usage, Unavailable."""
    config = home.config()
    if carrier is Carrier.LOOPBACK:
        host, _, port = config.listen.rpartition(":")
        if port == "0":
            raise Usage(
                "over loopback newcomers need a fixed port: set network.listen in config.toml, or name --bootstrap"
            )
        return f"/ip4/{host}/tcp/{port}"
    if config.tor_mode == "external":
        onion, _, port = config.tor_onion.rpartition(":")
        return f"/onion3/{onion.removesuffix('.onion')}:{port}"
    return written_out(multiaddr(onion_of(onion_seed(home))))


def onion_seed(home: Home, name: str = "onion") -> bytes:
    """The seed of this home's onion, made when it is first asked for; raises Unavailable where it cannot be kept."""
    file = home.path / name
    try:
        durable.create(file, os.urandom(SEED_BYTES), 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror}") from error
    return _read(file)


def _read(file: Path) -> bytes:
    try:
        seed = file.read_bytes()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from error
    if len(seed) != SEED_BYTES:
        raise Usage(f"{file} is damaged: it holds the {SEED_BYTES} bytes of an onion's seed; remove it for a new onion")
    return seed
