// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {EligibilityManager} from "./EligibilityManager.sol";
import {ParamRegistry} from "./ParamRegistry.sol";
import {SignerRegistry} from "./SignerRegistry.sol";

/// @notice Votes of nodes on parameters and signers, and the timelock that their outcome waits in. What is voted on is one call.
///
///     propose ── Active, 2,160 blocks ──┬─→ Locked, 1,440 blocks ──→ Ready, 10,080 blocks ──┬─→ Executed
///                                       └─→ Defeated                                        └─→ Expired
///
/// Who was eligible in the block before the proposal has one vote, and gives it once. Carried: more than a third of the
/// eligible are for it or abstain, and more are for it than against. Nobody can withdraw, hasten or veto. A block is 120 s.
contract Governance {
    error NotEligible(address account);
    error NotAllowed(address target);
    error OpenAlready(bytes32 proposal);
    error ProposalExists(bytes32 proposal);
    error ProposalUnknown(bytes32 proposal);
    error NotActive(bytes32 proposal, State state);
    error NotReady(bytes32 proposal, State state);
    error VotedAlready(bytes32 proposal, address voter);

    event ProposalMade(
        bytes32 indexed proposal,
        address indexed proposer,
        address target,
        bytes data,
        string description,
        uint256 snapshot
    );
    event VoteCast(bytes32 indexed proposal, address indexed voter, Support support);
    event ProposalExecuted(bytes32 indexed proposal);

    enum State {
        Active,
        Defeated,
        Locked,
        Ready,
        Executed,
        Expired
    }

    enum Support {
        Against,
        For,
        Abstain
    }

    struct Proposal {
        uint48 snapshot; // the block before its own; never 0, since nobody is eligible in the genesis
        uint48 against;
        uint48 inFavour;
        uint48 abstaining;
        bool executed;
    }

    /// @notice In blocks: 3 days with that of the proposal, then 2 in which it waits, then 14 in which it can be executed.
    uint256 public constant VOTING = 2_160;
    uint256 public constant DELAY = 1_440;
    uint256 public constant EXECUTION = 10_080;

    mapping(bytes32 id => Proposal) private _proposals;
    mapping(address proposer => bytes32 id) private _last;

    /// @notice Whether an account has voted on a proposal.
    mapping(bytes32 id => mapping(address voter => bool)) public hasVoted;

    /// @notice Proposes a call of ParamRegistry.set or SignerRegistry.rotate. An account has one proposal at a time that is
    /// voted on. What cannot be done, as a value out of bounds, is found at its execution, and expires.
    function propose(address target, bytes calldata data, string calldata description) external returns (bytes32 id) {
        if (!_isAllowed(target, data)) revert NotAllowed(target);
        uint48 snapshot = uint48(block.number - 1);
        if (!_isEligible(msg.sender, snapshot)) revert NotEligible(msg.sender);
        bytes32 last = _last[msg.sender];
        if (last != 0 && state(last) == State.Active) revert OpenAlready(last);
        id = idOf(target, data, msg.sender, keccak256(bytes(description)));
        if (_proposals[id].snapshot != 0) revert ProposalExists(id);
        _proposals[id].snapshot = snapshot;
        _last[msg.sender] = id;
        emit ProposalMade(id, msg.sender, target, data, description, snapshot);
    }

    /// @notice Gives the sender's vote, for good.
    function vote(bytes32 id, Support support) external {
        State now_ = state(id);
        if (now_ != State.Active) revert NotActive(id, now_);
        if (!_isEligible(msg.sender, _proposals[id].snapshot)) revert NotEligible(msg.sender);
        if (hasVoted[id][msg.sender]) revert VotedAlready(id, msg.sender);
        hasVoted[id][msg.sender] = true;
        Proposal storage found = _proposals[id];
        if (support == Support.Against) ++found.against;
        else if (support == Support.For) ++found.inFavour;
        else ++found.abstaining;
        emit VoteCast(id, msg.sender, support);
    }

    /// @notice Does what was voted for; anybody may. Reverts with the target's error where the target refuses.
    function execute(address target, bytes calldata data, address proposer, bytes32 descriptionHash) external {
        bytes32 id = idOf(target, data, proposer, descriptionHash);
        State now_ = state(id);
        if (now_ != State.Ready) revert NotReady(id, now_);
        _proposals[id].executed = true; // before the call: nothing that it reached could execute it again
        (bool ok, bytes memory answer) = target.call(data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
        emit ProposalExecuted(id);
    }

    /// @notice The id of a proposal: all that was voted on, and who proposed it.
    function idOf(address target, bytes calldata data, address proposer, bytes32 descriptionHash)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(target, data, proposer, descriptionHash));
    }

    /// @notice Where a proposal stands in this block; reverts for one that nobody made.
    function state(bytes32 id) public view returns (State) {
        Proposal memory found = _found(id);
        if (found.executed) return State.Executed;
        uint256 passed = block.number - found.snapshot; // 1 in the block of the proposal
        if (passed <= VOTING) return State.Active;
        if (!_isCarried(found)) return State.Defeated;
        if (passed <= VOTING + DELAY) return State.Locked;
        return passed <= VOTING + DELAY + EXECUTION ? State.Ready : State.Expired;
    }

    /// @notice The block whose eligible have a vote on a proposal, and the votes given; reverts for one that nobody made.
    function tallyOf(bytes32 id)
        external
        view
        returns (uint256 snapshot, uint256 against, uint256 inFavour, uint256 abstaining)
    {
        Proposal memory found = _found(id);
        return (found.snapshot, found.against, found.inFavour, found.abstaining);
    }

    function _found(bytes32 id) private view returns (Proposal memory found) {
        found = _proposals[id];
        if (found.snapshot == 0) revert ProposalUnknown(id);
    }

    /// More than a third: whom finality bears with, fewer than a third, carries nothing while the others sleep.
    function _isCarried(Proposal memory one) private view returns (bool) {
        uint256 eligible = EligibilityManager(At.ELIGIBILITY).getPastTotalSupply(one.snapshot);
        return 3 * (uint256(one.inFavour) + one.abstaining) > eligible && one.inFavour > one.against;
    }

    function _isEligible(address account, uint48 snapshot) private view returns (bool) {
        return EligibilityManager(At.ELIGIBILITY).getPastVotes(account, snapshot) != 0;
    }

    /// One of the two calls, in full and no longer.
    function _isAllowed(address target, bytes calldata data) private pure returns (bool) {
        bytes4 selector = bytes4(data); // of less than four bytes, filled up with zeros
        if (target == At.PARAMS) return selector == ParamRegistry.set.selector && data.length == 4 + 2 * 32;
        return target == At.SIGNERS && selector == SignerRegistry.rotate.selector && data.length == 4 + 3 * 32;
    }
}
