// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {LucidAnchors} from "./LucidAnchors.sol";

/// @notice Commitments to sealed chunks, and what others say of those: that they hold a replica, that they checked who does.
/// What is held where is drawn by a seed that comes after the block of its commitment. The bytes themselves are with the
/// holders: 16 MiB of them would cost 669 M gas. Storage holds how many chunks a session has committed to, so that a call that
/// is sent again changes nothing; all else stands in events. Anybody may hold and probe: readers count whom the seed drew.
contract LucidChunkStore {
    error OutOfOrder(bytes32 session, uint64 expected);
    error NotOwner(bytes32 session, address owner);
    error NoChunks();
    error NotCommitted(bytes32 session, uint64 committed);
    error NoReplica(uint8 replica);

    event ChunkCommitted(
        bytes32 indexed session, bytes32 indexed chunk, uint64 number, uint64 size, bytes32[3] roots
    );

    event ChunksHeld(
        bytes32 indexed session, address indexed holder, uint8 replica, uint64 first, uint256 bits
    );
    event ChunkProbed(
        bytes32 indexed session,
        address indexed holder,
        address indexed prober,
        uint64 number,
        uint8 replica,
        bool available
    );

    /// @notice How many replicas a chunk has, numbered from 0.
    uint8 public constant REPLICAS = 3;

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

    /// @notice The sender holds a replica of chunks of a session: of `first` + i for each bit i that is set.
    function hold(bytes32 session, uint64 first, uint256 bits, uint8 replica) external {
        if (bits == 0) revert NoChunks();
        _check(session, first, bits, replica);
        emit ChunksHeld(session, msg.sender, replica, first, bits);
    }

    /// @notice The sender has asked a holder for a part of its replica of a chunk, and got it or not.
    function probe(bytes32 session, uint64 number, uint8 replica, address holder, bool available) external {
        _check(session, number, 1, replica);
        emit ChunkProbed(session, holder, msg.sender, number, replica, available);
    }

    /// All of them are committed to, and there is such a replica.
    function _check(bytes32 session, uint64 first, uint256 bits, uint8 replica) private view {
        if (replica >= REPLICAS) revert NoReplica(replica);
        uint64 count = committed[session];
        if (first >= count || bits >> (count - first) != 0) revert NotCommitted(session, count);
    }
}
