"""Helpers that know nothing of memorization: optional imports, files."""
