// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {Facts} from "./Facts.sol";
import {LucidToken} from "./LucidToken.sol";

/// @notice Mints what a published slot is worth, to whom the consensus says, once. Anybody may call: what counts is the proof.
contract RewardMinter {
    error MintedAlready(uint256 slot);
    error NothingToMint(uint256 slot);
    error TooMuch(uint256 amount);

    event RewardMinted(uint256 indexed slot, address indexed payee, uint256 amount);

    /// What a slot mints at most, in LUCID, before the first halving: no fact of the consensus may say more.
    uint256 public constant SLOT_MAX = 50;

    mapping(uint256 slot => bool) public isMinted;

    /// @notice Mints `amount` LUCID for a slot. The fact is of the block before the one with that timestamp, which is less than
    /// 8,191 blocks old; in a block that mints its parent's reward it is the block's own.
    function mint(uint256 slot, address payee, uint256 amount, uint256 timestamp, bytes32[2] calldata proof) external {
        if (isMinted[slot]) revert MintedAlready(slot);
        if (payee == address(0) || amount == 0) revert NothingToMint(slot);
        if (amount > SLOT_MAX) revert TooMuch(amount);
        Facts.check(Facts.REWARD, abi.encode(slot, payee, amount), timestamp, proof);
        isMinted[slot] = true;
        emit RewardMinted(slot, payee, amount);
        LucidToken(At.TOKEN).mint(payee, amount * 1e18);
    }
}
