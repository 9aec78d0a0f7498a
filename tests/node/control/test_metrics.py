"""The exposition is read by Prometheus' own client, and every figure of it has a help and a type."""

from prometheus_client.parser import text_string_to_metric_families

from node.control.metrics import exposition

FACTS = {
    "node": "ab" * 32,
    "network": 'so "called" \\ net\nwork',
    "hour": 7,
    "tor": {"state": "up"},
    "peers": ["cd" * 32, "ef" * 32],
    "mesh": 2,
    "contacts": 3,
    "directory": 4,
    "holders": 3,
    "bytes_in": 1000,
    "bytes_out": 2000,
    "replicas_held": 5,
    "replica_bytes": 6000,
    "replica_bytes_most": 7000,
    "sessions": 2,
    "sessions_replicated": 1,
    "sessions_missing": 0,
    "chunks_owed": 9,
    "steps": 10,
}


def test_prometheus_reads_the_figures_with_their_labels() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(FACTS))}
    assert len(families) == 17
    for family in families.values():
        assert family.documentation, family.name
        (sample,) = family.samples
        assert sample.labels == {"node": FACTS["node"], "network": FACTS["network"]}
    assert families["lucid_peers"].samples[0].value == 2
    assert families["lucid_steps"].type == "counter"
    assert families["lucid_tor_up"].samples[0].value == 1


def test_a_chain_has_five_figures_more() -> None:
    chain = {"slot": 40, "head_slot": 39, "final_hour": 8, "voters": 5, "clock_offset_ms": -12}
    families = {one.name: one for one in text_string_to_metric_families(exposition({**FACTS, "chain": chain}))}
    assert len(families) == 22
    told = {f"lucid_{name}": value for name, value in chain.items()}
    assert {name: families[name].samples[0].value for name in told} == told
    without = {one.name for one in text_string_to_metric_families(exposition({**FACTS, "chain": None}))}
    assert families.keys() - without == told.keys()


def test_what_a_node_does_not_have_is_left_out() -> None:
    names = {family.name for family in text_string_to_metric_families(exposition({**FACTS, "tor": None}))}
    assert "lucid_peers" in names
    assert "lucid_tor_up" not in names
