// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";
import {Facts} from "./Facts.sol";
import {LucidToken} from "./LucidToken.sol";

/// @notice Mints what a published slot earned, once, from what the consensus told a block about the one before. Anybody may
/// call; nobody gains by it but the payee.
contract RewardMinter {
    error NothingToMint(uint256 slot);
    error AboveSlotMax(uint256 amount);
    error MintedAlready(uint256 slot);

    event RewardMinted(uint256 indexed slot, address indexed payee, uint256 amount);

    /// @notice Whole LUCID of a slot, before the first halving and ever (SPEC §6): whatever the consensus were to say.
    uint256 public constant SLOT_MAX = 50;
    uint256 private constant LUCID = 10 ** 18;

    /// A bit a slot.
    mapping(uint256 word => uint256 bits) private _minted;

    /// @notice Mints a slot's reward, in whole LUCID; `timestamp` is of a block that was told of it, this one among them.
    function mint(uint256 slot, address payee, uint256 amount, uint256 timestamp, bytes32[2] calldata proof) external {
        if (payee == address(0) || amount == 0) revert NothingToMint(slot);
        if (amount > SLOT_MAX) revert AboveSlotMax(amount);
        if (minted(slot)) revert MintedAlready(slot);
        Facts.check(Facts.REWARD, abi.encode(slot, payee, amount), timestamp, proof);
        _minted[slot >> 8] |= 1 << (slot & 0xff);
        LucidToken(At.TOKEN).mint(payee, amount * LUCID);
        emit RewardMinted(slot, payee, amount);
    }

    /// @notice Whether a slot's reward is minted.
    function minted(uint256 slot) public view returns (bool) {
        return _minted[slot >> 8] >> (slot & 0xff) & 1 == 1;
    }
}
