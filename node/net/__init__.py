"""Bytes between peers: the host that runs a machine, the swarm that carries its frames, and the ways that bytes travel."""
