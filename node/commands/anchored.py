"""What the chain says of a session that is verified: judged from a bundle's anchors, or from those of this home.

none: nothing is anchored      unchecked: no genesis to check it with      witnessed: opened in a final block      final: closed, too
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.checkpoint_sync import accept, split
from consensus.encoding import Malformed
from consensus.proof import ProofWrong, TrustPoint, checkpoint_trust, genesis_trust
from consensus.records import pack
from consensus.signing import verify_as_is
from node.config import Home
from node.console import Console, moment
from node.constitution import chain_law_of, law_of
from node.exits import Unavailable, Usage
from node.membership import joined, load
from node.network import NetworkTerms
from node.sessions.records import Reading
from node.store.chainrows import read_rows
from pipeline.bundle import NO_TIME, Fault, Verdict

if TYPE_CHECKING:
    from node.chain.evidence import AnchoredAt, AnchorVerdict


@dataclass(frozen=True, slots=True)
class Anchored:
    """How far a session is on the chain, as far as this verifier can tell."""

    level: str
    why: str = ""
    """Why it is not more than that."""
    verdict: "AnchorVerdict | None" = None
    fault: Fault | None = None
    network: str | None = None


def evidence_of(home: Home, session: Any, rows: Reading) -> tuple[bytes | None, str]:
    """The anchors of a session of this home, as a bundle holds them; or None, and why there are none."""
    from node.sessions.anchors import (  # Ethereum's libraries, which who anchors nothing does without
        NotAnchored,
        gather,
    )

    try:
        with read_rows(home.path / "chain") as chain:
            return pack(gather(session, rows, chain.get)), ""
    except NotAnchored as error:
        return None, str(error)
    except OSError:
        return None, "no node has run in this home, and without one nothing is anchored: `lucid-node run`"


def trusted(args: argparse.Namespace, home: Home) -> NetworkTerms | None:
    """The genesis to check with: that of --network, else of this home; None where there is none."""
    if args.network is not None:
        return load(Path(args.network))[1]
    return joined(home)


def judged(verdict: Verdict, args: argparse.Namespace, home: Home, missing: str) -> Anchored:
    """What the anchors of an intact session show; `missing` says why there are none, if there are none."""
    opening, manifest = verdict.opening, verdict.manifest
    if verdict.anchors is None or opening is None or not verdict.valid:
        return Anchored("none", missing)
    terms = trusted(args, home)
    if terms is None:
        return Anchored(
            "unchecked", "its anchors take the network's genesis to check: name its file with --network FILE"
        )
    if terms.network != opening.network:
        return Anchored(
            "unchecked", f"it belongs to another network than {terms.genesis.name}: --network FILE names its file"
        )
    from node.chain.evidence import begun_at, judge, read_evidence

    try:
        evidence = read_evidence(verdict.anchors)
        trust = _trust(args, terms)
        if trust.hour:
            evidence = begun_at(evidence, trust)
        session = (opening, verdict.heads, manifest)
        found = judge(evidence, session, trust, chain_law_of(terms), verify_as_is)
    except (Malformed, ProofWrong) as error:
        return Anchored("none", fault=Fault("anchors", f"the anchors do not show what they claim: {error}"))
    name = terms.genesis.name
    if found.closed is None:
        return Anchored("witnessed", "its close is not in a final block yet", found, network=name)
    return Anchored("final", "", found, network=name)


def _trust(args: argparse.Namespace, terms: NetworkTerms) -> TrustPoint:
    law = law_of(terms)
    if args.checkpoint is None:
        return genesis_trust(law)
    try:
        offered = accept(law, split(Path(args.checkpoint).read_bytes()), verify_as_is)
    except OSError as error:
        raise Unavailable(f"{args.checkpoint} cannot be read: {error.strerror}") from error
    except (Malformed, ProofWrong) as error:
        raise Usage(
            f"{args.checkpoint} is no checkpoint of {terms.genesis.name} that can be trusted: {error}"
        ) from error
    trust = checkpoint_trust(law, offered.state.checkpoint)
    if trust is None:
        raise Usage(f"at the checkpoint in {args.checkpoint} those who vote were changing: take another one")
    return trust


# ------------------------------------------------------------------ said


def proven(verdict: Verdict, found: Anchored) -> tuple[str, ...]:
    """All that is proven, of the records and by the chain."""
    return verdict.proven + (found.verdict.proven if found.verdict else ())


def not_proven(verdict: Verdict, found: Anchored) -> tuple[str, ...]:
    """What is not."""
    if found.verdict is None:
        return verdict.not_proven
    return tuple(one for one in verdict.not_proven if one != NO_TIME) + found.verdict.not_proven


def say(found: Anchored, console: Console) -> None:
    """The anchors for people."""
    at = found.verdict
    if at is None:
        console.say(
            f"  anchors  none: {found.why}" if found.level == "none" else f"  anchors  not checked: {found.why}"
        )
        return
    console.say(f"  opened   in {_where(at.opened)} on {found.network}")
    if at.heads:
        console.say(f"  heads    {len(at.heads)} anchored, the last in {_where(list(at.heads.values())[-1])}")
    console.say(f"  closed   in {_where(at.closed)}" if at.closed else f"  closed   not anchored: {found.why}")
    console.say(f"  longest stretch without a witness: {at.stretch_s} s")
    console.say(f"  trust    {at.trust}, from HOUR {at.trust_hour} on")


def _where(at: "AnchoredAt") -> str:
    return f"slot {at.slot} ({moment(at.time_s * 1000)}), block {at.block.hex()[:12]}"


def facts(found: Anchored) -> dict[str, Any]:
    """The same for programs."""
    at = found.verdict
    none: dict[str, Any] = dict.fromkeys(("trust_point", "opened", "closed", "heads_anchored", "longest_stretch_s"))
    told = (
        none
        if at is None
        else {
            "trust_point": at.trust_hour,
            "opened": at.opened._asdict(),
            "closed": None if at.closed is None else at.closed._asdict(),
            "heads_anchored": {str(number): where._asdict() for number, where in at.heads.items()},
            "longest_stretch_s": at.stretch_s,
        }
    )
    return {"anchored": found.level, "anchored_why": found.why, "trust": "none" if at is None else at.trust, **told}
