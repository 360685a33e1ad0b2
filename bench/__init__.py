"""Benchmarks: every op beside the other ways to compute it, in one process, checked before it is timed."""
