"""The JSON-RPC by an onion: for who holds the reader's key, over any tor, and for nobody else."""

import json
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from node.carrier import RPC_SEED
from node.chain.rpc import RpcServer
from node.config import Home
from node.daemon import RPC_PORT, Daemon
from node.log import EventLog
from node.tor.interface import Tor
from node.tor.onion import onion_of, parse_onion, reader_key
from node.tor.socks import DialFailed
from tests.node.tor.test_interface import Pair, every_tor
from tests.rpc.stage import LAW, Served


async def asked(tor: Tor, address: str, host: str) -> tuple[int, str]:
    """The status and the body of what is answered to a call, over a stream to an onion."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with await tor.dial(parse_onion(address), RPC_PORT, "rpc") as stream:
        await stream.send_all(head.encode() + body)
        answer = b""
        while part := await stream.receive_some(4_096):
            answer += part
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest.rpartition(b"\r\n\r\n")[2].decode()


@every_tor
async def test_its_reader_asks_by_way_of_an_onion_and_nobody_else(
    pair: Pair, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    secret = secrets.token_bytes(32)
    rpc = RpcServer(Served(), 0)
    async with pair(request) as (server, client), trio.open_nursery() as nursery:
        with trio.fail_after(120):
            await nursery.start(rpc.run)
            config = SimpleNamespace(rpc_reader=reader_key(secret))
            daemon: Any = SimpleNamespace(
                desk=SimpleNamespace(config=config, home=Home(tmp_path)), tor=server, log=EventLog(level="error")
            )
            await Daemon._publish_rpc(daemon, rpc)
            assert rpc.onion == onion_of((tmp_path / RPC_SEED).read_bytes()) + ".onion"
            with pytest.raises(DialFailed):
                await asked(client, rpc.onion, rpc.onion)
            await client.add_reader(parse_onion(rpc.onion), secret)
            status, body = await asked(client, rpc.onion, f"{rpc.onion}:{RPC_PORT}")
            assert (status, json.loads(body)["result"]) == (200, hex(LAW.chain_id))
            assert (await asked(client, rpc.onion, "another.onion"))[0] == 403
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("reader", "has_tor"), [("", True), ("A" * 52, False)])
async def test_without_a_reader_or_a_tor_there_is_no_onion(reader: str, has_tor: bool, tmp_path: Path) -> None:
    rpc = RpcServer(Served(), 0)
    rpc.address = "127.0.0.1:1"
    desk = SimpleNamespace(config=SimpleNamespace(rpc_reader=reader), home=Home(tmp_path))
    await Daemon._publish_rpc(SimpleNamespace(desk=desk, tor=object() if has_tor else None), rpc)  # type: ignore[arg-type]
    assert rpc.onion is None
    assert not (tmp_path / RPC_SEED).exists()
