// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {At} from "./At.sol";

/// @notice LUCID: minted for published slots alone, and never a vote. Balances of past blocks can be looked up, so that a
/// month's snapshot needs no transaction.
contract LucidToken is ERC20 {
    using Checkpoints for Checkpoints.Trace208;

    error NotMinter();
    error FutureLookup(uint256 blockNumber);

    mapping(address account => Checkpoints.Trace208) private _balances;
    Checkpoints.Trace208 private _supply;

    constructor() ERC20("", "") {}

    function name() public pure override returns (string memory) {
        return "Lucid";
    }

    function symbol() public pure override returns (string memory) {
        return "LUCID";
    }

    /// @notice Mints a slot's reward; only the RewardMinter does, from what it has proof of.
    function mint(address to, uint256 amount) external {
        if (msg.sender != At.MINTER) revert NotMinter();
        _mint(to, amount);
    }

    /// @notice What an account had after a past block.
    function balanceOfAt(address account, uint48 blockNumber) external view returns (uint256) {
        if (blockNumber >= block.number) revert FutureLookup(blockNumber);
        return _balances[account].upperLookupRecent(blockNumber);
    }

    /// @notice What there was after a past block.
    function totalSupplyAt(uint48 blockNumber) external view returns (uint256) {
        if (blockNumber >= block.number) revert FutureLookup(blockNumber);
        return _supply.upperLookupRecent(blockNumber);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        uint48 now_ = uint48(block.number);
        if (from == address(0) || to == address(0)) _supply.push(now_, SafeCast.toUint208(totalSupply()));
        if (from != address(0)) _balances[from].push(now_, SafeCast.toUint208(balanceOf(from)));
        if (to != address(0)) _balances[to].push(now_, SafeCast.toUint208(balanceOf(to)));
    }
}
