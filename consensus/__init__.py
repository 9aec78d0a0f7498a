"""What every node must compute identically: integers, canonical bytes, no effects."""
