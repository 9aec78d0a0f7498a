from pathlib import Path

import pytest

from consensus.ids import Network
from consensus.signing import KeyPair
from node.exits import Unavailable
from node.wallet.eras import ERAS_KEPT, EraKeyFiles

ME, OTHER = (KeyPair.from_seed(bytes((number,)) * 32) for number in (1, 2))
NETWORK = Network(b"n" * 32)


def test_keys_of_an_era_are_made_once_and_found_again(tmp_path: Path) -> None:
    made = EraKeyFiles(tmp_path / "eras", ME, NETWORK).new_keys(3)
    again = EraKeyFiles(tmp_path / "eras", ME, NETWORK)
    assert again.keys_of(made.signing.public) == made == again.new_keys(3)
    assert again.keys_of(ME.public) is not None  # the first ERA's
    assert again.keys_of(OTHER.public) is None
    assert (tmp_path / "eras" / "3").stat().st_mode & 0o777 == 0o600
    sealed = (tmp_path / "eras" / "3").read_bytes()
    assert made.signing.secret[:32] not in sealed
    assert made.vrf_secret not in sealed


def test_keys_that_sign_nothing_any_more_are_erased(tmp_path: Path) -> None:
    files = EraKeyFiles(tmp_path, ME, NETWORK)
    first = files.new_keys(1)
    for era in (2, 3, 10):
        files.new_keys(era)
    assert sorted(int(file.name) for file in tmp_path.iterdir()) == [2, 3, 10]
    assert len([*tmp_path.iterdir()]) == ERAS_KEPT
    assert EraKeyFiles(tmp_path, ME, NETWORK).keys_of(first.signing.public) is None


def test_a_file_of_another_identity_or_a_damaged_one_is_told(tmp_path: Path) -> None:
    EraKeyFiles(tmp_path, ME, NETWORK).new_keys(1)
    for identity, network in ((OTHER, NETWORK), (ME, Network(b"m" * 32))):
        with pytest.raises(Unavailable, match="is damaged, or of another identity"):
            EraKeyFiles(tmp_path, identity, network)
    (tmp_path / "1").write_bytes(b"short")
    with pytest.raises(Unavailable, match="is damaged"):
        EraKeyFiles(tmp_path, ME, NETWORK)


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "eras").write_text("a file in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        EraKeyFiles(tmp_path / "eras", ME, NETWORK).new_keys(1)
