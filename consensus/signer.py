"""What a node may sign: never two things that contradict each other, whatever it forgets, however often it is started.

    wants to sign ──→ allowed by the journal? ──→ journal row, durable ──→ only then the signature leaves the machine

The journal keeps the highest source and target of a vote and the last proposal, and refuses everything lower. It is a row
for each era key. A copy of the data directory that runs elsewhere signs with the same key: who hears its own key sign, since
it began, what its journal does not know has a double, and signs no more. What the key signed before that is learnt, so that
an old copy contradicts nothing either.

Source: CONSENSUS §7.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from consensus.admission import SignatureList
from consensus.block import BlockHeader, SignedHeader, header_signable
from consensus.finality import SignedVote, Vote, vote_signable
from consensus.ids import Digest, Network
from consensus.records import Size, pack, unpack
from consensus.signing import KeyPair


@dataclass(frozen=True, slots=True)
class SigningJournal:
    """The highest of what one era key has signed."""

    VERSION: ClassVar = 1
    source_hour: int
    """Of its votes; 0 before the first."""
    target_hour: int
    vote: Annotated[bytes, Size(64)] | None
    """The signature of the last vote."""
    slot: int
    """Of its last proposal; 0 before the first."""
    rank: int
    proposal: Annotated[bytes, Size(64)] | None


FRESH = SigningJournal(0, 0, None, 0, 0, None)


class Signer:
    """One era key and its journal. `row` is the journal as it has to be kept before what was signed last is sent."""

    def __init__(self, key: KeyPair, network: Network, row: bytes | None = None) -> None:
        self.public = key.public
        self.journal = FRESH if row is None else unpack(SigningJournal, row)
        self._key = key
        self._network = network

    @property
    def row(self) -> bytes:
        """The journal's bytes."""
        return pack(self.journal)

    def vote(self, vote: Vote) -> SignedVote | None:
        """The signed vote; None when the journal forbids it: not a later HOUR, or a lower source."""
        kept = self.journal
        if vote.target_hour <= kept.target_hour or vote.source_hour < kept.source_hour:
            return None
        signature = self._key.sign_as_is(vote_signable(vote, self._network))
        self.journal = replace(kept, source_hour=vote.source_hour, target_hour=vote.target_hour, vote=signature)
        return SignedVote(vote, signature)

    def propose(self, header: BlockHeader) -> SignedHeader | None:
        """The signed header; None when the journal forbids it: not a later slot."""
        kept = self.journal
        if header.slot <= kept.slot:
            return None
        signature = self._key.sign_as_is(header_signable(header, self._network))
        self.journal = replace(kept, slot=header.slot, rank=header.rank, proposal=signature)
        return SignedHeader(header, SignatureList(1, (signature,)))

    def sign(self, message: bytes) -> bytes:
        """The signature over bytes in a domain of which two never contradict each other: statements and reports."""
        return self._key.sign_as_is(message)

    def heard_vote(self, signed: SignedVote, since: int) -> bool:
        """Whether a vote by this key shows a double: one of a later HOUR than `since`, in which this program began.

        One from before is this key's own of an earlier life, and counts as if the journal had it.
        """
        vote, kept = signed.vote, self.journal
        if vote.target_hour < kept.target_hour or signed.signature == kept.vote:
            return False
        if vote.target_hour > since:
            return True
        source = max(kept.source_hour, vote.source_hour)
        self.journal = replace(kept, source_hour=source, target_hour=vote.target_hour, vote=signed.signature)
        return False

    def heard_proposal(self, signed: SignedHeader, since: int) -> bool:
        """The same of a header; `since` is the slot in which this program began."""
        header, kept = signed.header, self.journal
        if header.slot < kept.slot or signed.signatures.signatures == (kept.proposal,):
            return False
        if header.slot > since:
            return True
        self.journal = replace(kept, slot=header.slot, rank=header.rank, proposal=signed.signatures.signatures[0])
        return False


def journal_key(public: bytes) -> tuple[str, Digest]:
    """Under which name the journal of an era key is kept."""
    return ("signed", Digest(public))
