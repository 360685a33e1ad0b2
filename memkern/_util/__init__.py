"""Helpers that know nothing of memorization: options, registries, optional imports, files, words of messages."""
