"""A swarm on libp2p's wire: Noise, yamux and multistream-select over whatever transport brings the bytes."""
