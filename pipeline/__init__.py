"""One session on one machine: captured, cut, sealed, listed; no network."""
