"""Takes out of texts and records what differs between two runs of the same code: times, paths, versions, memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

MASKED = frozenset({"created", "wall", "seconds", "versions", "made_with", "files", "peak_memory"})
"""Keys of JSON objects whose values are the run's own: of what lies under them only the keys are kept."""

_TIMES = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d| UTC)?")
_VERSIONS = re.compile(r"(?<![\w.])\d+\.\d+\.\d+(?:[.+-]?[a-z0-9]+)*")
# An absolute path of two folders or more, where a text may have one; a URL or a closing tag of HTML is none.
_PATHS = re.compile(r"(?<![\w:/<.>])/(?:[\w.+-]+/)+[\w.+-]*")
_NUMBER = r"(?<![\w.])\d[\d,]*(?:\.\d+)?"
_DURATIONS = re.compile(rf"{_NUMBER}[ \u00a0]?(?:ns|us|µs|ms|s|sec|seconds?|min|minutes?|h|hours?)\b")
_SIZES = re.compile(rf"{_NUMBER}[ \u00a0]?(?:[kMGT]i?B|bytes)\b")
_RATES = re.compile(rf"{_NUMBER} (?:images|views|steps)? ?(?:a|per) second")
_SHARES = re.compile(rf"\b(load|views|forward|backward|metrics|write|rest|loading|reading) {_NUMBER} ?%")
# The report's list of what the manifest says: "wall.forward", and its value twice, in an attribute and between tags.
_WALL = re.compile(r"(>wall\.\w+</[^0-9]*)[\d.]+(\"[^0-9]*?>)[\d.]+")
_EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,([A-Za-z0-9+/=]+)")


class Normaliser:
    """Replaces what is a run's own by its kind in angle brackets.

    Args:
        roots: Folder -> what stands for it.
    """

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._roots = dict(sorted(roots.items(), key=lambda item: -len(item[0])))

    def string(self, value: str) -> str:
        """A value of a record without paths, times and versions; numbers with units stay."""
        for root, name in self._roots.items():
            value = value.replace(root, name)
        value = _TIMES.sub("<time>", value)
        value = _VERSIONS.sub("<version>", value)
        return _PATHS.sub("<path>", value)

    def text(self, value: str) -> str:
        """A text for people: `string`, and without durations, sizes of memory and files, rates and shares of time."""
        value = _EMBEDDED.sub(lambda found: f"<embedded {hashlib.sha256(found[1].encode()).hexdigest()[:16]}>", value)
        value = _RATES.sub("<rate>", self.string(value))
        value = _SIZES.sub("<size>", _DURATIONS.sub("<duration>", value))
        value = _SHARES.sub(r"\1 <share>", value)
        return "\n".join(line.rstrip() for line in value.splitlines())

    def html(self, value: str) -> str:
        """The same of HTML, a tag a line so that differences can be read."""
        value = _WALL.sub(r"\1<duration>\2<duration>", value)
        return self.text(re.sub(r"(?<=>)\s*(?=<)", "\n", value))

    def record(self, value: Any, key: str = "") -> Iterator[tuple[str, str]]:
        """The leaves of what JSON holds: ("views/spec/flip", "0.5"), …; floats with all their digits."""
        if isinstance(value, dict):
            for name, each in value.items():
                yield from self.record(each, f"{key}/{name}" if key else str(name))
            if not value:
                yield key, "{}"
        elif isinstance(value, list) and any(isinstance(each, (dict, list)) for each in value):
            for place, each in enumerate(value):
                yield from self.record(each, f"{key}/{place}")
        elif MASKED & set(key.split("/")):
            yield key, "<masked>"
        elif isinstance(value, str):
            yield key, repr(self.string(value))
        elif isinstance(value, list):
            yield key, repr([self.string(each) if isinstance(each, str) else each for each in value])
        else:
            yield key, repr(value)
