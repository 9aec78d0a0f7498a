// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What the consensus says of the block before, proven against the roots that EIP-4788 keeps for 8,191 slots.
/// Four leaves in a tree of two levels, keccak256(00 ‖ words); a node is keccak256(01 ‖ left ‖ right). A leaf's place says what
/// it is, and each caller fixes the place: a fact of one kind is never taken for one of another.
/// A list among the facts is a tree of any number of entries with the same prefixes, an odd node promoted as it is, under
/// keccak256(02 ‖ count ‖ top): the count fixes the shape, so no inner node poses as an entry. consensus/facts.py makes both.
library Facts {
    uint256 internal constant REWARD = 1;
    uint256 internal constant CREDITS = 2;
    uint256 internal constant VOTERS = 3;

    /// Where EIP-4788 puts its contract on every chain.
    address private constant ROOTS = 0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02;

    /// No block had that time, or too many slots ago.
    error NoBlockAt(uint256 timestamp);
    error NotAFact(uint256 place, uint256 timestamp);

    /// Reverts unless the block of that time was told those words at that place of its facts.
    function check(uint256 place, bytes memory words, uint256 timestamp, bytes32[2] calldata proof) internal view {
        bytes32 pair = place & 1 == 0 ? _node(leaf(words), proof[0]) : _node(proof[0], leaf(words));
        bytes32 root = place & 2 == 0 ? _node(pair, proof[1]) : _node(proof[1], pair);
        if (root != _rootAt(timestamp)) revert NotAFact(place, timestamp);
    }

    function leaf(bytes memory words) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), words));
    }

    /// Whether an entry is at that place of a list; false for a proof of any other shape.
    function isListed(bytes32 root, uint256 count, uint256 place, bytes32 entry, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (place >= count) return false;
        uint256 used;
        for (uint256 width = count; width > 1; width = (width >> 1) + (width & 1)) {
            // The last of an odd number has no sibling, and goes up as it is.
            if (place ^ 1 < width) {
                if (used == proof.length) return false;
                bytes32 sibling = proof[used++];
                entry = place & 1 == 0 ? _node(entry, sibling) : _node(sibling, entry);
            }
            place >>= 1;
        }
        return used == proof.length && keccak256(abi.encodePacked(bytes1(0x02), count, entry)) == root;
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }

    function _rootAt(uint256 timestamp) private view returns (bytes32) {
        (bool ok, bytes memory answer) = ROOTS.staticcall(abi.encode(timestamp));
        if (!ok) revert NoBlockAt(timestamp);
        return abi.decode(answer, (bytes32));
    }
}
