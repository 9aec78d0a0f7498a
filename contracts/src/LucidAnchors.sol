// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Recorded sessions: opened before their first frame, followed while they run, closed with their manifest.
/// What is said stands in events. Storage holds one slot a session: that an id is used once, and by whom.
contract LucidAnchors {
    error SessionExists(bytes32 session);
    error SessionUnknown(bytes32 session);
    error SessionClosedAlready(bytes32 session);
    error NotOwner(bytes32 session, address owner);

    event SessionOpened(
        bytes32 indexed session, address indexed owner, bytes16 uuid, bytes32 ephemeralKey, bytes32 policyHash
    );
    event HeadAnchored(bytes32 indexed session, uint32 indexed number, bytes32 head);
    event SessionClosed(
        bytes32 indexed session, bytes32 manifestHash, bytes32 merkleRoot, uint32 chunkCount, uint32 headCount
    );

    struct Session {
        address owner;
        uint64 openedAt; // block.timestamp, which is the start of the block's slot
        bool isClosed;
    }

    mapping(bytes32 session => Session) private _sessions;

    /// @notice Opens a session of the sender's. Its id is keccak256(owner ‖ uuid ‖ ephemeral key): who sees this call before it
    /// is in a block can open no session of that id, since the sender is a part of it.
    function open(bytes16 uuid, bytes32 ephemeralKey, bytes32 policyHash) external returns (bytes32 session) {
        session = idOf(msg.sender, uuid, ephemeralKey);
        if (_sessions[session].owner != address(0)) revert SessionExists(session);
        _sessions[session] = Session(msg.sender, uint64(block.timestamp), false);
        emit SessionOpened(session, msg.sender, uuid, ephemeralKey, policyHash);
    }

    /// @notice A head of an open session's chain of segments. Numbers are the owner's: their order is that of the blocks.
    function head(bytes32 session, uint32 number, bytes32 hash) external {
        _open(session);
        emit HeadAnchored(session, number, hash);
    }

    /// @notice Closes a session for ever. headCount is how many heads the manifest has, anchored or not.
    function close(bytes32 session, bytes32 manifestHash, bytes32 merkleRoot, uint32 chunkCount, uint32 headCount)
        external
    {
        _open(session).isClosed = true;
        emit SessionClosed(session, manifestHash, merkleRoot, chunkCount, headCount);
    }

    /// @notice The id of a session.
    function idOf(address owner, bytes16 uuid, bytes32 ephemeralKey) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(owner, uuid, ephemeralKey));
    }

    /// @notice Who opened a session, when, and whether it is closed; reverts for one that nobody opened.
    function sessionOf(bytes32 id) external view returns (address owner, uint64 openedAt, bool isClosed) {
        Session memory found = _sessions[id];
        if (found.owner == address(0)) revert SessionUnknown(id);
        return (found.owner, found.openedAt, found.isClosed);
    }

    /// The sender's own session, while it is open.
    function _open(bytes32 id) private view returns (Session storage found) {
        found = _sessions[id];
        if (found.owner == address(0)) revert SessionUnknown(id);
        if (found.owner != msg.sender) revert NotOwner(id, found.owner);
        if (found.isClosed) revert SessionClosedAlready(id);
    }
}
