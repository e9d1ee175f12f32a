"""Weights and tokenizers of a stranger: nothing in them runs, and damage is named. `tests/test_hostile_checkpoints.py`
has what can be read without torch."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
import torch

from baselines.common.checkpoint import load_strict, read_state_dict
from baselines.common.tokenizer import load_tokenizer
from evalkit.errors import InputError


def saved(value, **options) -> bytes:
    """The bytes of `torch.save`, in its present form unless options say otherwise."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_weights(tmp_path, zipped):
    """Cut anywhere, bytes overwritten or put in: tensors, or an InputError; never another exception."""
    good = saved({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)},
                 _use_new_zipfile_serialization=zipped)
    generator, path, refused = np.random.default_rng(0), tmp_path / "x.pt", 0
    for number in range(300):
        start = int(generator.integers(len(good)))
        bad = [good[:start], good[start:], good[:start] + generator.bytes(4) + good[start + 4:],
               good[:start] + generator.bytes(3) + good[start:]][number % 4]
        path.write_bytes(bad)
        try:
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_state_dict(path).values())
        except InputError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("value", [[1], 3, None, {"a": 1}, {"a": {"b": torch.zeros(1)}}, {1: torch.zeros(1)},
                                   {("a",): torch.zeros(1)}, torch.zeros(1)])
def test_only_names_and_tensors(tmp_path, value):
    """Anything but a flat map from texts to tensors is refused."""
    (tmp_path / "x.pt").write_bytes(saved(value))
    with pytest.raises(InputError, match="not a flat state dict"):
        read_state_dict(tmp_path / "x.pt")


def test_tensors_that_claim_more_than_they_bring(tmp_path):
    """A tensor of 10^15 numbers on a storage of one is mapped, not made room for, and does not fit the module."""
    (tmp_path / "x.pt").write_bytes(saved({"weight": torch.zeros(1).expand(10**15), "bias": torch.zeros(2)}))
    with pytest.raises(InputError, match="of another shape"):
        load_strict(torch.nn.Linear(3, 2), read_state_dict(tmp_path / "x.pt"))


CODE = """
from pathlib import Path
Path(__file__).with_name("CANARY").touch()
from transformers import PreTrainedTokenizerFast
class Evil(PreTrainedTokenizerFast):
    pass
"""


@pytest.mark.parametrize("kind", ["Evil", "PreTrainedTokenizerFast"])
def test_tokenizers_do_not_run_code(fixtures, tmp_path, monkeypatch, kind):
    """A folder whose tokenizer is a class of its own: refused without a question, or loaded as transformers' class."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(fixtures / "cosmos_base" / "tokenizer", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": kind, "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(CODE)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the code"))
    with contextlib.suppress(InputError):
        assert type(load_tokenizer(folder)).__name__ != "Evil"
    assert list(tmp_path.rglob("CANARY")) == []


@pytest.mark.parametrize("text", ["", "[", "3", "[" * 100_000, '{"version": 9}'])
def test_tokenizers_that_are_none(fixtures, tmp_path, text):
    """The folder is named."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(fixtures / "cosmos_base" / "tokenizer", folder)
    for name in ("tokenizer.json", "vocab.json"):
        (folder / name).write_text(text)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_tokenizer(folder)
