"""Kinds of encoder: each file binds `KIND` to an `EncoderKind`, and is named by what stands before the colon."""
