"""Encoders of the papers at the size of the lab."""
