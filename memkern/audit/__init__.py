"""Audits of encoders: taps, data, runs and reports."""
