"""Checks of arguments; the sentences about wrong ones are built here."""
