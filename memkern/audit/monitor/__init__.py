"""Memorization during training."""
