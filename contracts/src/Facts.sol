// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What the consensus says of a block: four leaves under a root, which the execution layer keeps for 8,191 blocks (EIP-4788).
/// leaf = keccak256(00 ‖ data), node = keccak256(01 ‖ left ‖ right); data is words of 32 bytes. consensus/facts.py makes them.
library Facts {
    error RootUnknown(uint256 timestamp);
    error NotProven();

    uint256 internal constant BLOCK = 0;
    uint256 internal constant REWARD = 1;
    uint256 internal constant CREDITS = 2;
    uint256 internal constant VOTERS = 3;

    address private constant ROOTS = 0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02;

    /// @notice Reverts unless data is the fact at a place of the block before the one with that timestamp.
    function check(uint256 place, bytes memory data, uint256 timestamp, bytes32[2] calldata proof) internal view {
        bytes32 node = keccak256(abi.encodePacked(bytes1(0), data));
        for (uint256 level; level < 2; ++level) {
            bytes32 other = proof[level];
            (bytes32 left, bytes32 right) = (place >> level) & 1 == 0 ? (node, other) : (other, node);
            node = keccak256(abi.encodePacked(bytes1(uint8(1)), left, right));
        }
        if (node != _root(timestamp)) revert NotProven();
    }

    function _root(uint256 timestamp) private view returns (bytes32) {
        (bool ok, bytes memory found) = ROOTS.staticcall(abi.encode(timestamp));
        if (!ok || found.length != 32) revert RootUnknown(timestamp);
        return abi.decode(found, (bytes32));
    }
}
