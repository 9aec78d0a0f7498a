// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where the contracts of the genesis are: "Lucid" in ASCII, then their number. There is no other code on the chain.
library At {
    address internal constant ANCHORS = 0x4c75636964000000000000000000000000000001;
    address internal constant CHUNK_STORE = 0x4C75636964000000000000000000000000000002;
    address internal constant PARAMS = 0x4C75636964000000000000000000000000000003;
    address internal constant ELIGIBILITY = 0x4C75636964000000000000000000000000000004;
    address internal constant ORACLE = 0x4C75636964000000000000000000000000000005;
    address internal constant MINTER = 0x4c75636964000000000000000000000000000006;
    address internal constant TOKEN = 0x4c75636964000000000000000000000000000007;
    address internal constant SIGNERS = 0x4c75636964000000000000000000000000000008;
    /// The timelock through which a vote acts.
    address internal constant GOVERNANCE = 0x4c75636964000000000000000000000000000009;
}
