"""Readers of images: each file binds `READER` to a `Reader`, one kind of data each."""
