"""Tor: one of ours or somebody else's, what it publishes and dials for us, and the private network of devnets and tests."""
