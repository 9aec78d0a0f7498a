"""The peer protocol as pure machines: run by node/net/host over Tor, and by netsim on virtual time."""
