"""Ethereum's JSON-RPC over HTTP, on loopback or an onion: so that web3.py, cast and ethers work against a node unchanged.

    client ── POST, JSON ──→ h11 ── one call, or up to BATCH_MAX ──→ here: send, pending, syncing        all else: the worker

Whoever is on this machine, or holds the key of the onion's reader, may ask, and send what others signed; nothing here signs. A web page may not: the Host has to be
this machine's, no other origin is allowed, and the body has to be JSON. Source: JSON-RPC 2.0; RFC 9112; EIP-1474.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import h11
import trio

from consensus.encoding import Malformed
from consensus.ids import Address
from node.chain.ethereum_views import RpcFault, as_address, as_bytes, data, quantity
from node.chain.mempool import Known, Mempool
from node.chain.transactions import Transaction
from node.exits import Unavailable

BODY_BYTES_MAX: Final = 1 << 20
BATCH_MAX: Final = 100
CONNECTIONS_MAX: Final = 64
IDLE_S: Final = 60.0
"""How long a connection may say nothing, or take over one request."""
ANSWER_S: Final = 30.0
READ_BYTES: Final = 1 << 16
HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
DEPTH_MAX: Final = 64
"""Of nested arrays and objects, before Python's own parser is given them."""

PARSE, INVALID, INTERNAL, REFUSED = -32700, -32600, -32603, -32000


class AskedChain(Protocol):
    """What the server needs of the chain."""

    mempool: Mempool

    async def rpc(self, method: str, params: str) -> list[Any]:
        """What the worker answers: 0 and JSON, or a code, a message, and data or nothing."""

    async def submit(self, data: bytes) -> Transaction:
        """Take a transaction in and spread it; raises Malformed, Known."""

    async def account_of(self, address: Address) -> tuple[int, int]:
        """An account's number and coins at the head."""

    @property
    def is_behind(self) -> bool:
        """Whether the node is still catching up."""


class RpcServer:
    """The server of one node."""

    def __init__(self, chain: AskedChain, port: int) -> None:
        self._chain, self._port = chain, port
        self._hosts = {*HOSTS}
        self.onion: str | None = None
        """Where it is met by its reader, once it is."""
        self.address: str | None = None
        """Where it listens, once it does."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; raises Unavailable where the port is taken."""
        try:
            (listener,) = await trio.open_tcp_listeners(self._port, host="127.0.0.1", backlog=CONNECTIONS_MAX)
        except OSError as error:
            raise Unavailable(
                f"port {self._port} is taken ({error.strerror}): name another one in the setting network.rpc"
            ) from error
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        room = trio.CapacityLimiter(CONNECTIONS_MAX)
        async with listener, trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await room.acquire_on_behalf_of(token := object())
                stream = await listener.accept()
                nursery.start_soon(self._serve, stream, room, token)

    def met_at(self, onion: str) -> None:
        """Answer whoever comes by way of an onion, too."""
        self._hosts.add(onion)
        self.onion = onion

    async def _serve(self, stream: trio.SocketStream, room: trio.CapacityLimiter, token: object) -> None:
        """One connection: nothing that goes wrong here reaches another."""
        try:
            async with stream:
                with suppress(h11.ProtocolError, trio.BrokenResourceError):  # it spoke no HTTP, or went away
                    await self._talk(_Connection(stream))
        finally:
            room.release_on_behalf_of(token)

    async def _talk(self, connection: "_Connection") -> None:
        while True:
            with trio.move_on_after(IDLE_S) as patience:
                asked = await connection.request()
            if patience.cancelled_caught or asked is None:
                return
            status, answer = await self._reply(*asked)
            if not await connection.answer(status, answer):
                return

    async def _reply(self, request: h11.Request, body: bytes | None) -> tuple[int, bytes]:
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers}
        host = headers.get("host", "").rpartition(":")
        if (host[0] if host[2].isdecimal() else "".join(host)) not in self._hosts:
            return 403, b"this is a node's own RPC: ask it as 127.0.0.1\n"
        if headers.get("origin") is not None:
            return 403, b"web pages are not answered\n"
        if request.method != b"POST":
            return 405, b'POST JSON-RPC 2.0, as in {"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}\n'
        if body is None:
            return 413, json.dumps(
                _fault(None, RpcFault(INVALID, f"a request has {BODY_BYTES_MAX} bytes at most"))
            ).encode()
        return 200, (await self.answer(body)).encode()

    async def answer(self, body: bytes) -> str:
        """The answer to a body, which may be anything."""
        try:
            asked = _parsed(body)
        except RpcFault as fault:
            return json.dumps(_fault(None, fault))
        if not isinstance(asked, list):
            return await self._one(asked) or ""
        if not asked or len(asked) > BATCH_MAX:
            return json.dumps(
                _fault(None, RpcFault(INVALID, f"a batch has 1 to {BATCH_MAX} calls, and this one has {len(asked)}"))
            )
        answers = [told for one in asked if (told := await self._one(one))]
        return f"[{','.join(answers)}]" if answers else ""

    async def _one(self, asked: Any) -> str:
        """The answer to a call; nothing for a notification."""
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str) or not _is_id(asked.get("id")):
            return json.dumps(_fault(None, RpcFault(INVALID, "a call is an object with a method, params and an id")))
        try:
            params = _params(asked)
            with trio.fail_after(ANSWER_S):
                result = await self._called(asked["method"], params)
        except RpcFault as fault:
            told = json.dumps(_fault(asked.get("id"), fault))
        except trio.TooSlowError:
            told = json.dumps(
                _fault(asked.get("id"), RpcFault(INTERNAL, f"no answer within {ANSWER_S:g} s: the node is busy"))
            )
        else:
            told = f'{{"jsonrpc":"2.0","id":{json.dumps(asked.get("id"))},"result":{result}}}'
        return told if "id" in asked else ""

    async def _called(self, method: str, params: list[Any]) -> str:
        """The result as JSON; raises RpcFault."""
        if method == "eth_sendRawTransaction":
            return json.dumps(await self._send(params))
        if method == "eth_getTransactionCount" and params[1:] == ["pending"]:
            address = as_address(params[0])
            nonce, _ = await self._chain.account_of(address)
            return json.dumps(quantity(self._chain.mempool.next_nonce(address, nonce)))
        if method == "eth_syncing" and self._chain.is_behind:
            return "true"
        code, result, given = await self._chain.rpc(method, json.dumps(params))
        if code:
            raise RpcFault(code, result, given)
        return str(result)

    async def _send(self, params: list[Any]) -> str:
        if len(params) != 1:
            raise RpcFault(-32602, "eth_sendRawTransaction takes the bytes of one transaction")
        try:
            return data((await self._chain.submit(as_bytes(params[0]))).hash)
        except Known:
            raise RpcFault(REFUSED, "already known") from None
        except Malformed as error:
            raise RpcFault(REFUSED, str(error)) from error


class _Connection:
    """HTTP/1.1 on a stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16_384)

    async def request(self) -> tuple[h11.Request, bytes | None] | None:
        """The next request with its body, None in its place where it is too long; None at the end."""
        request, body, is_long = None, bytearray(), False
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._stream.receive_some(READ_BYTES))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_BYTES_MAX:
                    is_long, body = True, bytearray()
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return request, None if is_long else bytes(body)
            else:
                return None

    async def answer(self, status: int, body: bytes) -> bool:
        """Send an answer; whether another request may follow."""
        kind = b"application/json" if body[:1] in (b"{", b"[", b"") else b"text/plain; charset=utf-8"
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await self._send(h11.Response(status_code=status, headers=headers))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            return False
        self._http.start_next_cycle()
        return True

    async def _send(self, event: Any) -> None:
        found = self._http.send(event)
        if found:
            await self._stream.send_all(found)


def _parsed(body: bytes) -> Any:
    """What a body spells; raises RpcFault."""
    depth = 0
    for byte in body:
        depth += (byte in b"[{") - (byte in b"]}")
        if depth > DEPTH_MAX:
            raise RpcFault(PARSE, f"nested deeper than {DEPTH_MAX}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RpcFault(PARSE, "this is no JSON") from None


def _params(asked: Mapping[str, Any]) -> list[Any]:
    found = asked.get("params", [])
    if not isinstance(found, list):
        raise RpcFault(-32602, "params are an array")
    return found


def _is_id(found: Any) -> bool:
    return found is None or (isinstance(found, (str, int)) and not isinstance(found, bool) and len(str(found)) <= 100)


def _fault(number: Any, fault: RpcFault) -> Mapping[str, Any]:
    error: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "id": number, "error": error}
