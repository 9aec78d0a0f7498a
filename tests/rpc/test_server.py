"""The JSON-RPC server: whatever it is sent it answers by the rules, within its limits, and goes on."""

import json
import socket
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.chain.onsystem import open_session
from node.chain.rpc import BATCH_MAX, BODY_BYTES_MAX
from node.chain.transactions import sign
from node.exits import Unavailable
from tests.rpc.stage import ACCOUNTS, LAW, SECRETS, Served, served

pytestmark = pytest.mark.component


def call(method: str, *params: Any, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


async def said(url: str, raw: bytes) -> bytes:
    """What comes back for bytes on a connection of their own, until it is closed or nothing more is to come."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(raw)
        await stream.send_eof()
        found = b""
        with trio.fail_after(30):
            while part := await stream.receive_some():
                found += part
        return found


def http(url: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    host = url.removeprefix("http://")
    lines = [
        f"{method} / HTTP/1.1",
        *(headers or (f"Host: {host}",)),
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


async def posted(url: str, body: Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await said(url, http(url, raw))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer[:200]
    return json.loads(rest) if rest else None


def asked(*bodies: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with served(Served()) as url:
            return [await posted(url, body) for body in bodies]

    return trio.run(main)


def test_calls_and_batches_are_answered_by_their_ids_and_notifications_are_not() -> None:
    single, batch, note, notes = asked(
        call("eth_chainId", number="a"),
        [call("eth_blockNumber", number=7), call("no_such", number=8), call("eth_getBalance", "0x12", number=9), 5],
        {"jsonrpc": "2.0", "method": "eth_chainId", "params": []},
        [{"method": "eth_chainId"}],
    )
    assert single == {"jsonrpc": "2.0", "id": "a", "result": hex(LAW.chain_id)}
    assert batch[0] == {"jsonrpc": "2.0", "id": 7, "result": "0x1"}
    assert [one["error"]["code"] for one in batch[1:]] == [-32601, -32602, -32600]
    assert [one["id"] for one in batch] == [7, 8, 9, None]
    assert note is None
    assert notes is None


def test_too_much_is_refused_with_one_sentence() -> None:
    many, none, deep, junk, wrong = asked(
        [call("eth_chainId")] * 10_000,
        [],
        b"[" * 100_000,
        b"\xff\xfe",
        call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0xffffff"}),
    )
    assert many["error"] == {"code": -32600, "message": f"a batch has 1 to {BATCH_MAX} calls, and this one has 10000"}
    assert [one["error"]["code"] for one in (none, deep, junk)] == [-32600, -32700, -32700]
    assert wrong["result"] == []  # beyond the head there is nothing


def test_a_range_of_logs_that_is_too_long_says_how_much_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.chain.ethereum.LOG_BLOCKS_MAX", 3)
    chain = Served()
    for _ in range(5):
        chain.block()

    async def main() -> Any:
        async with served(chain) as url:
            return await posted(url, call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"}))

    assert "ask for 3 at a time" in trio.run(main)["error"]["message"]


def test_more_logs_than_a_question_may_have_are_refused_and_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Served()

    async def main() -> None:
        async with served(chain) as url:
            for nonce in range(3):  # each in a block of its own
                order = open_session(bytes([nonce]) * 16, bytes(32), bytes(32))
                raw = sign(SECRETS[0], LAW.chain_id, nonce, order.to, order.data, order.gas)
                await posted(url, call("eth_sendRawTransaction", "0x" + raw.hex()))
            every = call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
            monkeypatch.setattr("node.chain.ethereum.LOGS_MAX", 3)
            assert len((await posted(url, every))["result"]) == 3
            monkeypatch.setattr("node.chain.ethereum.LOGS_MAX", 2)
            assert (await posted(url, every))["error"]["code"] == -32005

    trio.run(main)


def test_web_pages_other_hosts_other_methods_and_long_bodies_are_turned_away() -> None:
    async def main() -> None:
        async with served(Served()) as url:
            host, body = url.removeprefix("http://"), json.dumps(call("eth_chainId")).encode()
            wanted = [
                (http(url, body, "Host: evil.example"), b"403"),
                (http(url, body, f"Host: {host}", "Origin: http://evil.example"), b"403"),
                (http(url, b"", method="GET"), b"405"),
                (http(url, bytes(BODY_BYTES_MAX + 1)), b"413"),
                (http(url, body, "Host: localhost"), b"200"),
                (http(url, body), b"200"),
            ]
            for raw, status in wanted:
                assert (await said(url, raw)).split(b" ")[1] == status
            assert (await posted(url, call("eth_chainId")))["result"] == hex(LAW.chain_id)

    trio.run(main)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_garbage_on_the_wire_ends_its_connection_and_nothing_else(given_: list[bytes]) -> None:
    async def main() -> None:
        async with served(CHAIN) as url:
            for raw in given_:
                await said(url, raw)
                await said(url, http(url, raw))
            assert (await posted(url, call("net_listening")))["result"] is True

    trio.run(main)


CHAIN = Served()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**9)
    | st.text(max_size=8)
    | st.sampled_from(["0x", "0x0", "latest", "0x" + "11" * 20, "0x" + "22" * 32]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["to", "from", "data", "fromBlock", "topics", "address", "blockHash"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
METHODS = sorted(CHAIN.engine._ethereum._methods)


@given(st.sampled_from([*METHODS, "eth_sendRawTransaction"]), st.lists(VALUES, max_size=4))
def test_any_params_have_a_result_or_an_error_with_a_code(method: str, params: list[Any]) -> None:
    async def main() -> Any:
        from node.chain.rpc import RpcServer

        return json.loads(await RpcServer(CHAIN, 0).answer(json.dumps(call(method, *params)).encode()))

    found = trio.run(main)
    assert ("result" in found) != ("error" in found)
    if "error" in found:
        assert found["error"]["code"] in {-32602, -32601, -32000, -32001, -32005, 3}


def test_a_transaction_is_sent_once_counted_while_it_waits_and_refused_with_its_reason() -> None:
    chain = Served()
    chain.makes_blocks = False
    order = open_session(bytes(16), bytes(32), bytes(32))
    raw = "0x" + sign(SECRETS[0], LAW.chain_id, 0, order.to, order.data, order.gas).hex()
    foreign = "0x" + sign(SECRETS[0], 5, 0, order.to, order.data, order.gas).hex()
    who = "0x" + ACCOUNTS[0].hex()

    async def main() -> None:
        async with served(chain) as url:
            first = await posted(url, call("eth_sendRawTransaction", raw))
            again = await posted(url, call("eth_sendRawTransaction", raw))
            assert again["error"] == {"code": -32000, "message": "already known"}
            assert (
                "of another chain" in (await posted(url, call("eth_sendRawTransaction", foreign)))["error"]["message"]
            )
            counts = [
                (await posted(url, call("eth_getTransactionCount", who, tag)))["result"]
                for tag in ("pending", "latest")
            ]
            assert counts == ["0x1", "0x0"]
            assert (await posted(url, call("eth_getTransactionReceipt", first["result"])))["result"] is None
            chain.block()
            receipt = (await posted(url, call("eth_getTransactionReceipt", first["result"])))["result"]
            assert (receipt["status"], len(receipt["logs"])) == ("0x1", 1)
            assert (await posted(url, call("eth_syncing")))["result"] is False
            chain.is_behind = True
            assert (await posted(url, call("eth_syncing")))["result"] is True

    trio.run(main)


def test_a_port_that_is_taken_is_a_sentence() -> None:
    from node.chain.rpc import RpcServer

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Unavailable, match="name another one in the setting"):
            trio.run(RpcServer(CHAIN, taken.getsockname()[1]).run)
