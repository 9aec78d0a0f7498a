// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";

/// @notice The few numbers that a vote may change, each within bounds that nobody can. All else is fixed by the genesis.
contract ParamRegistry {
    error NotGovernance();
    error UnknownKey(bytes32 key);
    error OutOfBounds(bytes32 key, uint256 value, uint256 low, uint256 high);

    event ParamSet(bytes32 indexed key, uint256 before, uint256 value);

    struct Param {
        uint256 usual;
        uint256 low;
        uint256 high;
    }

    /// Only what was changed: value + 1, so that 0 says "as usual".
    mapping(bytes32 key => uint256 stored) private _changed;

    /// @notice The usual value of a key and its bounds; reverts for a key that does not exist.
    function boundsOf(bytes32 key) public pure returns (uint256 usual, uint256 low, uint256 high) {
        Param memory found = _param(key);
        return (found.usual, found.low, found.high);
    }

    /// @notice The value that holds now.
    function get(bytes32 key) public view returns (uint256) {
        uint256 stored = _changed[key];
        return stored == 0 ? _param(key).usual : stored - 1;
    }

    /// @notice All keys, in the order of SPEC §4.
    function keys() external pure returns (bytes32[8] memory) {
        return [
            bytes32("slotTimeoutMs"),
            "cooldownSlots",
            "leaderWindowDays",
            "baseMbPerSession",
            "dMinPpm",
            "payoutEpochHours",
            "maxChunkBytes",
            "policyTimeoutMs"
        ];
    }

    /// @notice Changes a value; only what was voted for does, after its delay.
    function set(bytes32 key, uint256 value) external {
        if (msg.sender != At.GOVERNANCE) revert NotGovernance();
        Param memory found = _param(key);
        if (value < found.low || value > found.high) revert OutOfBounds(key, value, found.low, found.high);
        uint256 before = get(key);
        _changed[key] = value + 1;
        emit ParamSet(key, before, value);
    }

    function _param(bytes32 key) private pure returns (Param memory) {
        if (key == "slotTimeoutMs") return Param(5_000, 1_000, 10_000);
        if (key == "cooldownSlots") return Param(16, 8, 64);
        if (key == "leaderWindowDays") return Param(7, 3, 14);
        if (key == "baseMbPerSession") return Param(5, 1, 1_000);
        if (key == "dMinPpm") return Param(200_000, 50_000, 1_000_000);
        if (key == "payoutEpochHours") return Param(720, 168, 2_160);
        if (key == "maxChunkBytes") return Param(16_777_216, 8_388_608, 67_108_864);
        if (key == "policyTimeoutMs") return Param(60_000, 5_000, 600_000);
        revert UnknownKey(key);
    }
}
