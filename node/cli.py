"""The words of the command line: every command, its options and its help; what they do stands in node/commands.

Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 could not be done now (DESIGN §12).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from node import config
from node.console import Console
from node.exits import UNAVAILABLE, Ended

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_Add = Callable[[str, str, str], argparse.ArgumentParser]
_EPILOG: Final = "Exit codes: 0 done · 1 the answer is no · 2 usage or configuration · 3 could not be done now."


def _duration(text: str) -> float:
    """Seconds, or with a unit: 90, 90s, 5m, 2h."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    seconds = float(number) * unit
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError("a duration is above 0")
    return seconds


def _fps(text: str) -> int:
    if not 1 <= int(text) <= 60:
        raise argparse.ArgumentTypeError("1 to 60 frames a second")
    return int(text)


def _chunk_bytes(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    bounds = int(low), int(high or 2 * int(low))
    if not 4096 <= bounds[0] < bounds[1] <= 64_000_000:
        raise argparse.ArgumentTypeError("LOW:HIGH with 4096 ≤ LOW < HIGH ≤ 64000000")
    return bounds


def _signer(text: str) -> str:
    if len(bytes.fromhex(text)) != 32:
        raise argparse.ArgumentTypeError("a signer's key has 64 hex digits")
    return text.lower()


def _setting(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


def _quota(text: str) -> int:
    if not 0 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("0 to 1000000 gigabytes")
    return int(text)


class _Version(argparse.Action):
    """Prints the version; looked up only when asked for, since that takes as long as all other imports together."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"lucid-node {version('lucid-node')}")
        parser.exit()


def _common() -> argparse.ArgumentParser:
    """The options that every command takes."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--home", metavar="DIR", default=argparse.SUPPRESS, help="this node's directory (LUCID_HOME, ~/.lucid)")
    add("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object on the last line")
    opens = "its first line opens the key vault (LUCID_PASSPHRASE_FILE)"
    add("--passphrase-file", metavar="FILE", default=argparse.SUPPRESS, help=opens)
    return common


def _adder(common: argparse.ArgumentParser, commands: "_Commands") -> _Add:
    """Adds a command: its name, what it does, and the function behind it as "module:function"."""

    def add(name: str, does: str, target: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does, description=does, parents=[common], epilog=_EPILOG)
        made.set_defaults(target=target)
        return made

    return add


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = _common()
    whole = argparse.ArgumentParser(
        prog="lucid-node",
        parents=[common],
        description="Record remote-desktop sessions into sealed chunks that anyone can verify and nobody can quietly change.",
        epilog=_EPILOG,
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    add = _adder(common, commands)
    made = add("init", "make a home: identity, keys in a passphrase vault, commented settings", "setup:init")
    made.add_argument(
        "--insecure-plaintext-keys", action="store_true", help="keys without a passphrase, for tests only"
    )
    made.add_argument("--network", metavar="FILE", help="the file of the network to join")
    pair = "become another device of an owner, by the offer in FILE, or the text of its QR code"
    made.add_argument("--pair", metavar="FILE|TEXT", help=pair)
    made.add_argument("--code-file", metavar="FILE", help="its first line is the offer's code (asked for)")
    made.add_argument("--name", metavar="NAME", help="what the owner's devices call this one (this machine's name)")
    quota = "gigabytes of disk for your own chunks, and as many for others' (with --network: a fifth of what is free)"
    made.add_argument("--quota-gb", type=_quota, metavar="N", help=quota)
    networks = commands.add_parser("network", help="make, show or join a network by its file", epilog=_EPILOG)
    _networks(_adder(common, networks.add_subparsers(metavar="create|revise|show|join|update", required=True)))
    points = commands.add_parser("checkpoint", help="begin at a final checkpoint from a file", epilog=_EPILOG)
    _checkpoints(_adder(common, points.add_subparsers(metavar="save|show|load", required=True)))
    _running(add)
    units = commands.add_parser("service", help="have systemd start the node on boot", epilog=_EPILOG)
    _service(_adder(common, units.add_subparsers(metavar="install|status|uninstall", required=True)))
    _recording(add)
    _inspecting(add)
    made = add("doctor", "check this machine and this home, with a mend for each finding", "checking:doctor")
    made.add_argument("--display", metavar=":N", help="the X display to check (DISPLAY)")
    pairs = commands.add_parser("pair", help="offer this home's keys to another device, or list them", epilog=_EPILOG)
    _pairing(_adder(common, pairs.add_subparsers(metavar="offer|devices", required=True)))
    keys = commands.add_parser("keys", help="export, import, rotate or try the keys of a home", epilog=_EPILOG)
    _keys(_adder(common, keys.add_subparsers(metavar="export|import|rotate|drill|reader", required=True)))
    return whole


def _networks(add: _Add) -> None:
    where = "where newcomers ask first: /onion3/ADDRESS:PORT of this home, or of another as NODE@MULTIADDR"
    own = f"{where} (this home alone)"
    made = add("create", "make a network: one file, signed by this home's identity", "networks:create")
    made.add_argument("name", metavar="NAME", help="1 to 32 of a–z, 0–9 and hyphens")
    made.add_argument("--mode", choices=("mainnet", "sandbox", "devnet"), required=True, help="what it is for")
    made.add_argument("--bootstrap", metavar="MULTIADDR", nargs="+", action="extend", help=own)
    founders = "ids of the first voters, the Server first (this home)"
    made.add_argument("--founder", metavar="KEY", type=_signer, nargs="+", action="extend", help=founders)
    made.add_argument("--transport", choices=("tor", "loopback"), default="tor", help="loopback: devnets only (tor)")
    rules = ("sortition", "rank", "bands")
    made.add_argument("--leader-rule", choices=rules, default="sortition", help="how leaders are drawn (sortition)")
    made.add_argument("--admission-bits", type=int, metavar="N", help="admission takes 2^N hashes (by mode)")
    made.add_argument("--set", type=_setting, metavar="NAME=N", action="append", help="a parameter, as slot_s=60")
    made.add_argument("--out", metavar="FILE", help="the network file (NAME.network)")
    made = add("revise", "sign other bootstrap addresses for a network of this home", "networks:revise")
    made.add_argument("file", metavar="FILE", help="its newest file")
    made.add_argument("--bootstrap", metavar="MULTIADDR", nargs="+", action="extend", help=where)
    made.add_argument("--out", metavar="FILE", required=True, help="the new file")
    for name, does in (
        ("show", "check a network file and print what it says"),
        ("join", "put a home that has no network into one"),
        ("update", "take a newer file of the network that this home has joined"),
    ):
        add(name, does, f"networks:{name}").add_argument("file", metavar="FILE", help="the network file")


def _checkpoints(add: _Add) -> None:
    does = "write the newest final checkpoint that this node can show, for newcomers"
    made = add("save", does, "checkpoints:save")
    made.add_argument("file", metavar="FILE", nargs="?", help="the new file (NETWORK-HOUR.checkpoint)")
    made = add("show", "check a checkpoint file from the genesis on, and say what it shows", "checkpoints:show")
    made.add_argument("file", metavar="FILE", help="the checkpoint file")
    made.add_argument("--network", metavar="FILE", help="the file of its network (the one that this home has joined)")
    does = "check a checkpoint file, and have this home's node begin there"
    add("load", does, "checkpoints:load_file").add_argument("file", metavar="FILE", help="the checkpoint file")


def _running(add: _Add) -> None:
    made = add("run", "take part in the network that this home has joined, until it is stopped", "running:run")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(info)")
    made.add_argument("--log-json", action="store_true", help="log as JSON, a line each")
    made = add("devnet", "a network of real daemons on this machine, until Ctrl-C", "devnets:run")
    made.add_argument("--nodes", type=int, default=5, metavar="N", help="how many, 2 to 50 (5)")
    made.add_argument("--transport", choices=("tor", "loopback"), default="tor", help="a private Tor network (tor)")
    made.add_argument(
        "--dir", metavar="DIR", help="keep the homes here, or take up those that are (a folder that is removed)"
    )
    made.add_argument("--once", action="store_true", help="stop as soon as all are connected")
    made.add_argument(
        "--drill", action="store_true", help="record on one node, lose its disk, play from the others, and stop"
    )
    add("status", "how the node does, on one screen, and how safe its newest sessions are", "status:status")
    made = add("explain", "why a node's credits and its weight in the draw are what they are", "asking:explain")
    made.add_argument("node", metavar="NODE", nargs="?", help="the id of another node, 64 hex digits (this one)")
    add("metrics", "the running node's figures in Prometheus' text format", "asking:metrics")
    made = add("restore", "bring back from the network what this disk lacks of the owner's sessions", "asking:restore")
    made.add_argument("session", metavar="SESSION", nargs="?", help="fetch the chunks of this session too")
    made.add_argument("--all", action="store_true", help="fetch the chunks of all sessions")


def _service(add: _Add) -> None:
    made = add("install", "write a hardened systemd unit for this home and start it", "service:install")
    made.add_argument("--print", action="store_true", help="print the unit and change nothing")
    made.add_argument("--user", metavar="NAME", help="whom it runs as (the owner of the home)")
    add("status", "how the service does; exit 1 unless it runs", "service:status")
    add("uninstall", "stop the service and remove its unit; the home stays", "service:uninstall")


def _recording(add: _Add) -> None:
    made = add(
        "record", "record a session until it is stopped (Ctrl-C, SIGTERM) or its input ends", "recording:run_record"
    )
    what = made.add_mutually_exclusive_group()
    what.add_argument("--display", metavar=":N", help="the X display to record (DISPLAY)")
    what.add_argument("--input", metavar="FILE", help="record these bytes instead of a screen; - is stdin")
    made.add_argument("--duration", type=_duration, metavar="TIME", help="stop after 90, 90s, 5m or 2h")
    made.add_argument("--fps", type=_fps, metavar="N", help="frames a second, 1 to 60 (setting record.fps, 15)")
    made.add_argument(
        "--encoder", metavar="NAME", help="one of FFmpeg's H.264 encoders; auto takes the first that works"
    )
    made.add_argument(
        "--audit", action=argparse.BooleanOptionalAction, help="record key classes, focus, clipboard owner"
    )
    made.add_argument(
        "--chunk-bytes", type=_chunk_bytes, metavar="LOW:HIGH", help="chunk bounds other than 8000000:16000000"
    )
    add(
        "recover",
        "close sessions whose recorder died, with everything that was safe in their journals",
        "recording:run_recover",
    )


def _inspecting(add: _Add) -> None:
    made = add("sessions", "list the sessions of this home, and how far each is on the chain", "listing:list_sessions")
    made.add_argument(
        "--chain", action="store_true", help="list what anybody opened on the chain, and what was abandoned"
    )
    made.add_argument("--hours", type=int, default=720, metavar="N", help="with --chain: of the last N HOURs (720)")
    made = add("label", "call a session something; the owner's other devices see it", "annotating:label")
    made.add_argument("session", metavar="SESSION", help="a session id, or its first digits")
    made.add_argument("text", metavar="TEXT", help="what it is called; an empty text takes the label away")
    made = add("note", "add a note to a session", "annotating:note")
    made.add_argument("session", metavar="SESSION", help="a session id, or its first digits")
    made.add_argument("text", metavar="TEXT", help="the note")
    made = add("hold", "put a legal hold on a session: nothing that frees space deletes it", "annotating:hold")
    made.add_argument("session", metavar="SESSION", help="a session id, or its first digits")
    made.add_argument("--reason", metavar="TEXT", default="", help="why, as for which case")
    made.add_argument("--release", action="store_true", help="take away the holds that this device knows of")
    made = add("verify", "check a session of this home or a proof bundle; needs no secret", "verifying:run_verify")
    made.add_argument("what", metavar="SESSION|BUNDLE", help="a session id, or its first digits, or a bundle file")
    made.add_argument("--network", metavar="FILE", help="check its anchors against this network's genesis (the home's)")
    made.add_argument(
        "--checkpoint", metavar="FILE", help="trust this checkpoint's voters and not those of the genesis"
    )
    made.add_argument("--signer", type=_signer, metavar="KEY", help="the signer's key that you trust, 64 hex digits")
    made.add_argument(
        "--require", choices=("signer", "chunks", "witnessed", "final"), help="exit 1 unless this holds as well"
    )
    made.add_argument(
        "--from-network", action="store_true", help="have the running node fetch from the holders what this disk lacks"
    )
    made = add("export", "write a proof bundle that a third party can verify", "inspection:export")
    made.add_argument("session", metavar="SESSION", help="a session id, or its first digits")
    made.add_argument("--out", metavar="FILE", required=True, help="the bundle")
    made.add_argument("--with-chunks", action="store_true", help="put the sealed chunks in as well")
    made.add_argument("--anchored", action="store_true", help="exit 3 unless its anchors are final and go in, too")
    made = add("play", "write the decrypted recording", "inspection:play")
    made.add_argument("session", metavar="SESSION", help="a session id, or its first digits")
    made.add_argument("--out", metavar="FILE", required=True, help="the recording")
    made.add_argument("--stream", choices=("video", "audit"), default="video", help="which stream (video)")
    made.add_argument(
        "--from-network", action="store_true", help="have the running node fetch from the holders what this disk lacks"
    )
    add("scrub", "read every sealed chunk and find bit rot", "inspection:scrub")


def _pairing(add: _Add) -> None:
    made = add("offer", "seal what a second device needs under a code, for one hour and one use", "pairing:offer")
    made.add_argument("--out", metavar="FILE", required=True, help="the offer; `init --pair FILE` takes it")
    made.add_argument("--name", metavar="NAME", help="what the other devices call this one (this machine's name)")
    add("devices", "list the owner's devices; exit 1 if two came by one offer", "pairing:devices")


def _keys(add: _Add) -> None:
    made = add("export", "write the keys to a file under a passphrase", "keyring:export_keys")
    made.add_argument("--out", metavar="FILE", required=True, help="the exported keys")
    made.add_argument("--export-passphrase-file", metavar="FILE", help="passphrase of the export, if not the vault's")
    made = add("import", "make a home from exported keys", "keyring:import_keys")
    made.add_argument("file", metavar="FILE", help="the exported keys")
    made.add_argument(
        "--vault-passphrase-file", metavar="FILE", help="passphrase of the new vault, if not the export's"
    )
    made = add(
        "rotate", "record from now on under a new master key; what was recorded keeps its own", "keyring:rotate_keys"
    )
    made.add_argument(
        "--account", action="store_true", help="give the chain's account a new key, and leave the master keys"
    )
    add("reader", "make a key with which to reach a node's JSON-RPC by its onion", "keyring:make_reader")
    made = add("drill", "try whether exported keys alone would open this home's recordings", "keyring:drill_keys")
    made.add_argument("--from", dest="file", metavar="FILE", required=True, help="the exported keys")
    made.add_argument("--export-passphrase-file", metavar="FILE", help="passphrase of the export, if not the vault's")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what ends it early becomes one sentence on stderr."""
    args = parser().parse_args(argv)
    for name in ("home", "json", "passphrase_file"):
        if not hasattr(args, name):
            setattr(args, name, None)
    console = Console(as_json=bool(args.json))
    module, _, function = args.target.partition(":")
    try:
        code: int = getattr(import_module(f"node.commands.{module}"), function)(args, config.home(args.home), console)
    except Ended as error:
        console.warn(f"lucid-node: {error}")
        console.result({"error": str(error), "code": error.code})
        return error.code
    except KeyboardInterrupt:
        console.warn("lucid-node: interrupted")
        return UNAVAILABLE
    except BrokenPipeError:
        sys.stderr.close()
        return UNAVAILABLE
    return code


if __name__ == "__main__":
    sys.exit(main())
