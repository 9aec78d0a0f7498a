"""A node's keys of each ERA: made once, sealed on the disk under the identity, and erased when they sign nothing any more.

    HOME/eras/‹era›    nonce 24 ‖ XChaCha20-Poly1305(key from the identity, seed of the era key 32 ‖ seed of the VRF key 32)

In the first ERA the identity itself signs: the genesis knows no other key. Whoever takes the machine later finds the keys of
two ERAs, and rewrites nothing older. Source: CONSENSUS §3.
"""

import os
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

from consensus.ids import Network
from consensus.signatory import EraKeys
from consensus.signing import KeyPair, domain
from node.exits import Unavailable
from pipeline import durable
from pipeline.seal import expand, extract

ERAS_KEPT: Final = 3
"""Those of the ERA before, of the present one and of the next."""

_NONCE: Final = 24


class EraKeyFiles:
    """The era keys of one home on one network."""

    def __init__(self, folder: Path, identity: KeyPair, network: Network) -> None:
        self._folder = folder
        self._label = domain("era keys", network)
        self._key = expand(extract(network, identity.secret[:32]), self._label, 32)
        self._keys = {identity.public: EraKeys(identity, identity.secret[:32])}
        for file in self._files():
            self._open(file)

    def keys_of(self, public: bytes) -> EraKeys | None:
        """The keys of an era key of ours; None for another's, or one that was erased."""
        return self._keys.get(public)

    def new_keys(self, era: int) -> EraKeys:
        """The keys of an ERA, the same whenever it is asked for; those of long ago are erased. Raises Unavailable."""
        file = self._folder / str(era)
        nonce = os.urandom(_NONCE)
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(os.urandom(64), self._label, nonce, self._key)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not file.exists():
                durable.create(file, nonce + sealed, 0o600)
        except OSError as error:
            raise Unavailable(f"{file} cannot be written: {error.strerror}") from error
        for old in self._files()[:-ERAS_KEPT]:
            _erase(old)
        return self._open(file)

    def _files(self) -> list[Path]:
        """The files that are there, the oldest ERA first."""
        if not self._folder.is_dir():
            return []
        return sorted(
            (file for file in self._folder.iterdir() if file.name.isdecimal()), key=lambda file: int(file.name)
        )

    def _open(self, file: Path) -> EraKeys:
        data = file.read_bytes()
        try:
            seeds = crypto_aead_xchacha20poly1305_ietf_decrypt(data[_NONCE:], self._label, data[:_NONCE], self._key)
        except (CryptoError, ValueError) as error:
            raise Unavailable(
                f"{file} is damaged, or of another identity: remove it, and the node registers anew"
            ) from error
        keys = EraKeys(KeyPair.from_seed(seeds[:32]), seeds[32:])
        self._keys[keys.signing.public] = keys
        return keys


def _erase(file: Path) -> None:
    """Overwrite a file and remove it; what a flash disk keeps of it is sealed all the same."""
    size = file.stat().st_size
    with file.open("r+b") as out:
        out.write(os.urandom(size))
        out.flush()
        os.fsync(out.fileno())
    file.unlink()
