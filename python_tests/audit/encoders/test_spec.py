"""Names with arguments."""

from __future__ import annotations

import pytest

from memkern.audit.encoders.spec import parse


def test_names_with_arguments() -> None:
    spec = parse("timm:vit_x?img_size=32&act=gelu&flat=True&size=(1,2)", ("timm",))
    assert (spec.prefix, spec.name) == ("timm", "vit_x")
    assert spec.arguments == {"img_size": 32, "act": "gelu", "flat": True, "size": (1, 2)}
    assert parse("C:/data?key=x", ("timm",)).name == "C:/data"
    with pytest.raises(ValueError, match=r"Expected `key=value` after the '\?' of 'a\?b', got 'b'"):
        parse("a?b")
