"""Files that are either whole or not there: those of the audit, under the lab's name."""

from memkern.audit.files import read_json, replace_atomically, sha256, write_json

__all__ = ["read_json", "replace_atomically", "sha256", "write_json"]
