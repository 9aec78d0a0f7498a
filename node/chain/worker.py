"""The process that executes payloads: python -m node.chain.worker FD FOLDER CHAIN_ID BEGAN_S SLOT_S

It reads questions from a socket that it was given and answers each in turn; it ends when the other end does, and the kernel
ends it with its parent. What it answered that it did is on the disk. Source: DESIGN §2, §7.
"""

import signal
import socket
import sys
from pathlib import Path
from typing import Any

from node.chain.engine import Engine
from node.chain.evm import Evm, InvalidPayload
from node.chain.genesis import ChainLaw
from node.chain.verbs import LENGTH_BYTES, READY, VerbFault, frame, length_of, read
from node.store.chainrows import open_rows


def answer(engine: Engine, question: list[Any]) -> list[Any]:
    """The answer to a question of ours."""
    number, verb, *arguments = question
    try:
        return [number, VerbFault.NONE, engine.verbs[verb](*arguments)]
    except InvalidPayload as error:
        return [number, VerbFault.INVALID, str(error)]
    except KeyError as error:
        return [number, VerbFault.UNKNOWN, str(error)]
    except OSError as error:
        return [number, VerbFault.DISK, str(error)]


def serve(connection: socket.socket, engine: Engine) -> None:
    """Answer until the other end is closed."""
    with connection.makefile("rwb") as stream:
        stream.write(frame([READY, VerbFault.NONE]))
        stream.flush()
        while len(head := stream.read(LENGTH_BYTES)) == LENGTH_BYTES:
            size = length_of(head)
            data = stream.read(size)
            if len(data) < size:
                return
            stream.write(frame(answer(engine, read(data))))
            stream.flush()


def main(fd: str, folder: str, chain_id: str, began_s: str, slot_s: str) -> None:
    """Serve on an open socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ctrl-C is the daemon's to translate
    law = ChainLaw(int(chain_id), int(began_s), (), int(slot_s))
    with socket.socket(fileno=int(fd)) as connection, open_rows(Path(folder)) as rows:
        serve(connection, Engine(Evm(rows, law), law))


if __name__ == "__main__":
    main(*sys.argv[1:])
