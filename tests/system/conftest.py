"""The private Tor network of the other tiers, for daemons as well."""

from tests.node.tor.conftest import private_tor

__all__ = ["private_tor"]
