// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC5805} from "@openzeppelin/contracts/interfaces/IERC5805.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {At} from "./At.sol";

/// @notice Who may vote: one node, one vote. Votes are 0 or 1, cannot be delegated, and follow from the work that was proven.
contract EligibilityManager is IERC5805 {
    using Checkpoints for Checkpoints.Trace208;

    error NotOracle();
    error LengthsDiffer(uint256 nodes, uint256 eligible);
    error NoDelegation();
    error FutureLookup(uint256 timepoint, uint48 clock);

    event EligibilityChanged(address indexed node, bool eligible);

    mapping(address node => Checkpoints.Trace208) private _eligible;
    Checkpoints.Trace208 private _total;

    /// @notice Sets who is eligible from this block on; only the WorkCreditsOracle does, from what it has proof of.
    function setEligible(address[] calldata nodes, bool[] calldata eligible) external {
        if (msg.sender != At.ORACLE) revert NotOracle();
        if (nodes.length != eligible.length) revert LengthsDiffer(nodes.length, eligible.length);
        uint208 total = _total.latest();
        for (uint256 place; place < nodes.length; ++place) {
            uint208 wanted = eligible[place] ? 1 : 0;
            uint208 before = _eligible[nodes[place]].latest();
            if (before == wanted) continue;
            _eligible[nodes[place]].push(clock(), wanted);
            total = total + wanted - before;
            emit EligibilityChanged(nodes[place], eligible[place]);
        }
        _total.push(clock(), total);
    }

    function getVotes(address account) external view returns (uint256) {
        return _eligible[account].latest();
    }

    function getPastVotes(address account, uint256 timepoint) external view returns (uint256) {
        return _eligible[account].upperLookupRecent(_past(timepoint));
    }

    function getPastTotalSupply(uint256 timepoint) external view returns (uint256) {
        return _total.upperLookupRecent(_past(timepoint));
    }

    function clock() public view returns (uint48) {
        return uint48(block.number);
    }

    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() external pure returns (string memory) {
        return "mode=blocknumber&from=default";
    }

    function delegates(address account) external pure returns (address) {
        return account;
    }

    function delegate(address) external pure {
        revert NoDelegation();
    }

    function delegateBySig(address, uint256, uint256, uint8, bytes32, bytes32) external pure {
        revert NoDelegation();
    }

    function _past(uint256 timepoint) private view returns (uint48) {
        if (timepoint >= clock()) revert FutureLookup(timepoint, clock());
        return uint48(timepoint);
    }
}
