"""Checkpoints: what stands in a file of weights, read without running any of it, and the networks in it."""
