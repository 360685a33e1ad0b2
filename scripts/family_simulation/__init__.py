"""Simulated families of encoders, where the truth is known: how often memkern.families is right."""
