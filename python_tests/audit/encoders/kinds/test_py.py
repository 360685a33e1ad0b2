"""Encoders from the user's own files."""

from __future__ import annotations

from pathlib import Path

import audit_helpers
import pytest

from memkern.audit.encoders.build import build_encoder
from memkern.errors import EncoderError


def test_functions_take_arguments(tmp_path: Path) -> None:
    assert not build_encoder(audit_helpers.encoder_file(tmp_path)).training
    assert build_encoder(audit_helpers.encoder_file(tmp_path) + "?width=5").conv.out_channels == 5


def test_wrong_functions(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def build():\n    return 3\n")
    with pytest.raises(TypeError, match=r"to give a torch\.nn\.Module, got int"):
        build_encoder(f"py:{file}:build")
    with pytest.raises(ValueError, match="to define 'make'; it defines build"):
        build_encoder(f"py:{file}:make")


def test_constructors_and_files_that_fail(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import torch\ndef build(size=3):\n    return torch.nn.Linear(size, 2, device='nowhere')\n")
    with pytest.raises(EncoderError, match=r"mine\.py:build' to build an encoder, got RuntimeError: Expected one of"):
        build_encoder(f"py:{file}:build")
    file.write_text("1 / 0")
    with pytest.raises(EncoderError, match=r"mine\.py:build' to build an encoder, got ZeroDivisionError: division"):
        build_encoder(f"py:{file}:build")


def test_a_message_blames_the_arguments_or_the_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def build(size=3):\n    return 1 + 'a'\n")
    with pytest.raises(EncoderError, match=r"to build an encoder, got TypeError: unsupported operand"):
        build_encoder(f"py:{file}:build")
    with pytest.raises(
        TypeError, match=r"Expected arguments that build of .* takes, got {'width': 3}: got an unexpected"
    ):
        build_encoder(f"py:{file}:build?width=3")
    with pytest.raises(TypeError, match=r"'siz'; did you mean `size`\?"):
        build_encoder(f"py:{file}:build?siz=3")
