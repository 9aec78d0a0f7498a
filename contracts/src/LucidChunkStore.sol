// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {LucidAnchors} from "./LucidAnchors.sol";

/// @notice Commitments to sealed chunks: what is held where is drawn by a seed that comes after the block of its commitment.
/// The bytes themselves are with the holders: 16 MiB of them would cost 669 M gas. Storage holds how many chunks a session has
/// committed to, so that a call that is sent again changes nothing; what they are stands in events.
contract LucidChunkStore {
    error OutOfOrder(bytes32 session, uint64 expected);
    error NotOwner(bytes32 session, address owner);
    error NoChunks();

    event ChunkCommitted(
        bytes32 indexed session, bytes32 indexed chunk, uint64 number, uint64 size, bytes32[3] roots
    );

    struct Commitment {
        bytes32 chunk; // BLAKE3 of the sealed file
        uint64 size; // its bytes
        bytes32[3] roots; // of the replicas 0 to 2
    }

    /// @notice How many chunks of a session are committed to.
    mapping(bytes32 session => uint64 count) public committed;

    /// @notice Commits to the next chunks of a session of the sender's, closed or not: `first` is how many there were before.
    function commit(bytes32 session, uint64 first, Commitment[] calldata chunks) external {
        (address owner,,) = LucidAnchors(At.ANCHORS).sessionOf(session);
        if (owner != msg.sender) revert NotOwner(session, owner);
        if (committed[session] != first) revert OutOfOrder(session, committed[session]);
        if (chunks.length == 0) revert NoChunks();
        committed[session] = first + uint64(chunks.length);
        for (uint64 place; place < chunks.length; ++place) {
            Commitment calldata one = chunks[place];
            emit ChunkCommitted(session, one.chunk, first + place, one.size, one.roots);
        }
    }
}
