"""Finished audits in the formats of other tools: each file binds `EXPORT` to an `Export`, named by its option."""
