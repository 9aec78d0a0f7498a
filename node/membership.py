"""The network that a home has joined: its file, checked whenever it is read."""

from pathlib import Path

from consensus.encoding import Malformed
from consensus.ids import NO_NETWORK, Network
from node.config import AUTO, Home
from node.exits import Unavailable, Usage
from node.network import Carrier, NetworkTerms, open_terms, read_file
from pipeline import durable
from pipeline.manifest import Signed


def load(file: Path) -> tuple[Signed, NetworkTerms]:
    """A network file, its signature and bounds checked; raises Unavailable, or Usage for what is none."""
    try:
        signed = read_file(file.read_text(encoding="utf-8"))
        return signed, open_terms(signed)
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from error
    except (Malformed, UnicodeDecodeError) as error:
        raise Usage(
            f"{file} is no network file that can be trusted ({error}): get it again from who made it"
        ) from error


def joined(home: Home) -> NetworkTerms | None:
    """The terms of the network that the home has joined, None for a home without one; raises Unavailable, Usage."""
    return load(home.network)[1] if home.network.exists() else None


def network_of(home: Home) -> Network:
    """The id under which this home signs and seals."""
    terms = joined(home)
    return NO_NETWORK if terms is None else terms.network


def carrier_of(home: Home, terms: NetworkTerms) -> Carrier:
    """What carries this node's bytes; raises Usage for a setting that the network does not allow."""
    wanted = home.config().transport
    carrier = terms.genesis.carrier
    if wanted not in {AUTO, carrier.name.lower()}:
        raise Usage(
            f"network.transport is {wanted} and the network {terms.genesis.name} uses {carrier.name.lower()}: "
            f"take the line out of {home.path / 'config.toml'}"
        )
    return carrier


def keep(home: Home, text: str, *, first: bool) -> None:
    """Put the home's network file in place, whole and durable; raises Usage where the first is not, Unavailable."""
    try:
        if first:
            durable.create(home.network, text.encode(), 0o644)
        else:
            durable.replace(home.network, text.encode(), 0o644)
    except FileExistsError:
        raise Usage(f"{home.path} has joined a network already; nothing was changed") from None
    except OSError as error:
        raise Unavailable(f"{home.network} cannot be written: {error.strerror}") from error
