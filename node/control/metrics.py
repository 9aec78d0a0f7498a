"""A daemon's status as Prometheus' text exposition: the same figures that `status` shows, each with its help.

Source: Prometheus, "Text-based format"; names end in their unit, counters in _total.
"""

from collections.abc import Mapping
from typing import Any, Final

_FIGURES: Final = (
    # name, type, help, how it is found in a status
    ("lucid_peers", "gauge", "Peers that are connected.", lambda facts: len(facts["peers"])),
    ("lucid_mesh_peers", "gauge", "Peers in the gossip mesh of the directory.", lambda facts: facts["mesh"]),
    ("lucid_contacts", "gauge", "Contacts in the DHT's table.", lambda facts: facts["contacts"]),
    ("lucid_directory_nodes", "gauge", "Nodes in the directory.", lambda facts: facts["directory"]),
    ("lucid_holder_nodes", "gauge", "Nodes in the directory that hold replicas.", lambda facts: facts["holders"]),
    (
        "lucid_received_bytes",
        "gauge",
        "Bytes received on the connections that are up.",
        lambda facts: facts["bytes_in"],
    ),
    ("lucid_sent_bytes", "gauge", "Bytes sent on the connections that are up.", lambda facts: facts["bytes_out"]),
    ("lucid_replicas_held", "gauge", "Replicas held for others.", lambda facts: facts["replicas_held"]),
    ("lucid_replicas_held_bytes", "gauge", "Bytes of replicas held for others.", lambda facts: facts["replica_bytes"]),
    ("lucid_replicas_room_bytes", "gauge", "Bytes offered for replicas.", lambda facts: facts["replica_bytes_most"]),
    ("lucid_sessions", "gauge", "Sessions of this node's owner on this disk.", lambda facts: facts["sessions"]),
    ("lucid_sessions_replicated", "gauge", "Of these, replicated.", lambda facts: facts["sessions_replicated"]),
    ("lucid_sessions_missing", "gauge", "Sessions not brought back yet.", lambda facts: facts["sessions_missing"]),
    ("lucid_chunks_owed", "gauge", "Chunks that wait for holders.", lambda facts: facts["chunks_owed"]),
    ("lucid_steps_total", "counter", "Steps of the peer machine.", lambda facts: facts["steps"]),
    ("lucid_slot", "counter", "The present slot.", lambda facts: _of_chain(facts, "slot")),
    ("lucid_head_slot", "gauge", "The slot of the head.", lambda facts: _of_chain(facts, "head_slot")),
    ("lucid_final_hour", "gauge", "The last final HOUR.", lambda facts: _of_chain(facts, "final_hour")),
    (
        "lucid_clock_offset_ms",
        "gauge",
        "By how much the peers' clocks are ahead.",
        lambda facts: _of_chain(facts, "clock_offset_ms"),
    ),
    ("lucid_voters", "gauge", "Voters of the ERA.", lambda facts: _of_chain(facts, "voters")),
    ("lucid_hour", "counter", "The network's present HOUR.", lambda facts: facts["hour"]),
    ("lucid_tor_up", "gauge", "Whether tor is up and our onion published.", lambda facts: _tor_up(facts["tor"])),
)


def exposition(facts: Mapping[str, Any]) -> str:
    """The text of a status."""
    label = f'{{node="{_escaped(facts["node"])}",network="{_escaped(facts["network"])}"}}'
    lines = []
    for name, kind, help_text, figure in _FIGURES:
        value = figure(facts)
        if value is not None:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", f"{name}{label} {value}"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _of_chain(facts: Mapping[str, Any], name: str) -> int | None:
    return None if facts.get("chain") is None else facts["chain"][name]


def _tor_up(tor: Mapping[str, Any] | None) -> int | None:
    return None if tor is None else int(tor["state"] == "up")
