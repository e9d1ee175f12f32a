"""The tokenizer of a base model's folder, without the code that such a folder may bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.errors import InputError


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of `folder`. Nothing is fetched and no code of the folder is run; raises InputError where
    it cannot be loaded so."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise whatever a file makes them raise
        raise InputError(f"the tokenizer in {folder} cannot be loaded: {type(error).__name__}: "
                         f"{' '.join(str(error).split())[:500]}") from error
