"""Why a record cannot be put into a block: each reason a sentence, and whether its author is to blame.

What depends on the branch or on the time is nobody's fault: the same record may be right elsewhere, or in a moment.
"""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why not."""

    OTHER_CHECKPOINT = "a vote for another checkpoint"
    NOT_JUSTIFIED = "a vote from a checkpoint that is not justified"
    OTHER_SUCCESSORS = "a vote for other successors than the checkpoint has"
    SECOND_VOTE = "a second vote"
    NO_VOTER = "a vote by no voter"
    VOTE_UNSIGNED = "a vote that its voter has not signed"
    OUT_OF_TIME = "a report out of time"
    UNKNOWN_HOUR = "a report of an HOUR that is not known"
    UNREGISTERED = "a report by nobody registered"
    SECOND_REPORT = "a second report"
    REPORT_UNSIGNED = "a report that its node has not signed"
    STATEMENT_OF_NOBODY = "a statement of nobody"
    STATEMENT_UNSIGNED = "a statement that its witness has not signed"
    FEW_WITNESSES = "a report with too few of its witnesses"
    OTHER_ERA = "a registration for another ERA"
    SECOND_REGISTRATION = "a second registration"
    EXPELLED = "a registration of a node that was expelled"
    STALE_CHECKPOINT = "a registration with a checkpoint that is too old, or of another branch"
    NO_VRF_KEY = "a registration whose VRF key is none"
    REGISTRATION_UNSIGNED = "a registration that its node has not signed"
    NO_WORK = "a registration without its proof of work"
    LITTLE_WORK = "a registration with less work than any ERA asks for"
    NO_CONTRADICTION = "evidence of two things that do not contradict each other"
    KNOWN_FAULT = "evidence against who was expelled before"
    EVIDENCE_UNSIGNED = "evidence that the accused has not signed"
    NO_UNCLE = "an uncle of no slot in which its rank was passed over"
    SECOND_UNCLE = "a second uncle"
    UNCLE_INVALID = "an uncle that is invalid"


BLAMED: Final = frozenset({Reason.VOTE_UNSIGNED, Reason.NO_VRF_KEY, Reason.REGISTRATION_UNSIGNED, Reason.LITTLE_WORK})
"""What no branch and no time can make right; keys of reports and an ERA's difficulty depend on the branch."""
