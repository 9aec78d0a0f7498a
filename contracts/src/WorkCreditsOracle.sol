// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {EligibilityManager} from "./EligibilityManager.sol";
import {Facts} from "./Facts.sol";

/// @notice The tallies of the consensus, as proven to the chain: each HOUR's credits as the root of a list, and who may vote,
/// entry by entry. Anybody may call.
contract WorkCreditsOracle {
    error NoList();
    error CommittedAlready(uint256 hour);
    error HourUnknown(uint256 hour);
    error LengthsDiffer(uint256 entries, uint256 proofs);
    error NotListed(uint256 place);

    event CreditsCommitted(uint256 indexed hour, bytes32 root, uint256 count);
    event VotersEnrolled(uint256 indexed era, bytes32 root, uint256 taken);

    struct Voter {
        uint256 place; // in the ERA's list
        address account;
        bool eligible;
    }

    /// @notice The root over an HOUR's credits; 0 while nobody committed it.
    mapping(uint256 hour => bytes32 root) public creditsRoot;

    /// @notice The first ERA of which an entry of an account is still taken: the one after its last entry's.
    mapping(address account => uint256 era) public takenFrom;

    /// @notice Commits an HOUR's settled credits.
    function commit(uint256 hour, bytes32 root, uint256 count, uint256 timestamp, bytes32[2] calldata proof) external {
        if (root == 0) revert NoList();
        if (creditsRoot[hour] != 0) revert CommittedAlready(hour);
        Facts.check(Facts.CREDITS, abi.encode(hour, root, count), timestamp, proof);
        creditsRoot[hour] = root;
        emit CreditsCommitted(hour, root, count);
    }

    /// @notice Whether an account's credits of an HOUR were those, which are at that place of the HOUR's `count`.
    function hasCredits(
        uint256 hour,
        address account,
        uint256 credits,
        uint256 place,
        uint256 count,
        bytes32[] calldata proof
    ) external view returns (bool) {
        bytes32 root = creditsRoot[hour];
        if (root == 0) revert HourUnknown(hour);
        return Facts.isListed(root, count, place, Facts.leaf(abi.encode(account, credits)), proof);
    }

    /// @notice Makes entries of an ERA's list hold, from this block on. An account has one entry an ERA; one that has had its
    /// entry of this ERA, or of a later one, is passed over, so that whoever sends the same entries first spoils nothing.
    function enrol(
        uint256 era,
        bytes32 root,
        uint256 count,
        uint256 timestamp,
        bytes32[2] calldata proof,
        Voter[] calldata entries,
        bytes32[][] calldata proofs
    ) external {
        if (entries.length != proofs.length) revert LengthsDiffer(entries.length, proofs.length);
        Facts.check(Facts.VOTERS, abi.encode(era, root, count), timestamp, proof);
        for (uint256 index; index < entries.length; ++index) {
            bytes32 entry = Facts.leaf(abi.encode(entries[index].account, entries[index].eligible));
            if (!Facts.isListed(root, count, entries[index].place, entry, proofs[index])) revert NotListed(entries[index].place);
        }
        emit VotersEnrolled(era, root, _take(era, entries));
    }

    /// Entries that are proven, to the EligibilityManager; how many of them were new.
    function _take(uint256 era, Voter[] calldata entries) private returns (uint256 taken) {
        address[] memory nodes = new address[](entries.length);
        bool[] memory eligible = new bool[](entries.length);
        for (uint256 index; index < entries.length; ++index) {
            address account = entries[index].account;
            if (takenFrom[account] > era) continue;
            takenFrom[account] = era + 1;
            nodes[taken] = account;
            eligible[taken++] = entries[index].eligible;
        }
        assembly ("memory-safe") {
            mstore(nodes, taken)
            mstore(eligible, taken)
        }
        EligibilityManager(At.ELIGIBILITY).setEligible(nodes, eligible);
    }
}
