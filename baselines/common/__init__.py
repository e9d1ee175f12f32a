"""What native policies share: their environment, action head, normalisation, layouts, checkpoint loading."""

from pathlib import Path

#: The environment of DiT4DiT and Qwen3DiT (`Policy.interpreter`, `Policy.requirements`).
NATIVE = "native"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
