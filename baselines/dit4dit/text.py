"""Instructions to text features: what Cosmos-Predict2.5 makes of a prompt, deterministic, so computed once each.

Source of the conversation, the padding and the standardisation: diffusers' Cosmos2_5_PredictBasePipeline, which DiT4DiT
calls (diffusers 0.37).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from baselines.common.tokenizer import load_tokenizer
from evalkit.errors import InputError

SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."


class Tokenizer:
    """The base folder's own tokenizer, with the pipeline's conversation around an instruction."""

    def __init__(self, folder: Path, length: int):
        self._tokenizer, self._length = load_tokenizer(folder), length
        if self._tokenizer.padding_side != "right" or self._tokenizer.pad_token is None:
            raise InputError(f"the tokenizer in {folder} pads on the {self._tokenizer.padding_side} with "
                             f"{self._tokenizer.pad_token!r}; expected Qwen2.5's own: right, '<|endoftext|>'. "
                             "Pads are attended to, so this changes every feature")

    def ids(self, instruction: str) -> Tensor:
        """(1, length) int64; longer conversations are cut."""
        conversation = [{"role": role, "content": [{"type": "text", "text": text}]}
                        for role, text in (("system", SYSTEM), ("user", instruction))]
        ids = self._tokenizer.apply_chat_template(
            conversation, tokenize=True, add_generation_prompt=False, add_vision_id=False, return_dict=False,
            max_length=self._length, truncation=True, padding="max_length")
        return torch.tensor([ids], dtype=torch.int64)


class TextEncoder(nn.Module):
    """The language model of Qwen2.5-VL. `resident`: whether it stays on the device, or is brought there for each new
    instruction and dropped again (its tensors stay mapped from the checkpoint)."""

    def __init__(self, language_model: nn.Module, tokenizer: Tokenizer, device: torch.device, resident: bool):
        super().__init__()
        self.model = language_model.to(device) if resident else language_model
        self.tokenizer, self.device, self.resident = tokenizer, device, resident

    @torch.no_grad()
    def features(self, ids: Tensor) -> Tensor:
        """(1, L) ids -> (1, L, layers * width): each layer's states, standardised per token (unbiased), in layer order.

        No mask: padding stands after the text and is attended to by itself.
        """
        arguments = {"input_ids": ids.to(self.device), "output_hidden_states": True, "use_cache": False}
        if self.resident:
            states = self.model(**arguments).hidden_states
        else:
            visiting = {name: tensor.to(self.device)
                        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]}
            states = torch.func.functional_call(self.model, visiting, kwargs=arguments).hidden_states
        return torch.cat([standardize(state) for state in states[1:]], dim=-1)


def standardize(state: Tensor) -> Tensor:
    """(..., C) with mean 0 and unbiased standard deviation 1 over the last axis, in the tensor's own precision."""
    return (state - state.mean(dim=-1, keepdim=True)) / (state.std(dim=-1, keepdim=True) + 1e-8)
