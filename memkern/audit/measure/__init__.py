"""The measuring part of an audit: plan, shards, scores, tables."""
