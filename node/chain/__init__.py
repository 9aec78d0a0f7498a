"""The execution layer: what the payloads of blocks do, on an EVM that is frozen at Prague (DESIGN §7)."""
