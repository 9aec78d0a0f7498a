"""The daemon: everything with effects, and the wiring."""
