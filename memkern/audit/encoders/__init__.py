"""Encoders from the command line's words, and their weights."""
