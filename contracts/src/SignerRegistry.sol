// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {At} from "./At.sol";

/// @notice Who signs payouts on TRON, two of three. The three of the genesis lie in storage; a vote rotates them.
contract SignerRegistry {
    error NotGovernance();
    error NoSigner(uint256 place);
    error SignerTwice(address signer);

    event SignersRotated(uint64 indexed generation, address[3] signers);

    uint256 public constant THRESHOLD = 2;

    address[3] private _signers;
    uint64 public generation;

    /// @notice The three of now.
    function signers() external view returns (address[3] memory) {
        return _signers;
    }

    /// @notice Whether an account is one of them.
    function isSigner(address account) external view returns (bool) {
        return account != address(0) && (account == _signers[0] || account == _signers[1] || account == _signers[2]);
    }

    /// @notice Puts others in their place; only what was voted for does, after its delay.
    function rotate(address[3] calldata following) external {
        if (msg.sender != At.GOVERNANCE) revert NotGovernance();
        for (uint256 place; place < 3; ++place) {
            if (following[place] == address(0)) revert NoSigner(place);
            for (uint256 other; other < place; ++other) {
                if (following[other] == following[place]) revert SignerTwice(following[place]);
            }
        }
        _signers = following;
        emit SignersRotated(++generation, following);
    }
}
