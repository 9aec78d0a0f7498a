"""Tests of node/wallet."""
