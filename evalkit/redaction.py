"""Redaction: keys and passwords among a command's arguments and a policy's options, which must not be recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "<redacted>"

#: Last words of a name that holds a secret. `unnorm_key` and `api_key_variable` are no secrets.
_NAME = (r"[\w-]*?(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?key|token|secret|password|"
         r"passwd|passphrase|credentials?|authorization)")
_SECRET = re.compile(_NAME, re.IGNORECASE)

#: ``name=value`` and ``name: value`` somewhere in a text, up to the value's end; ``user:password@`` of an address.
_INSIDE = re.compile(rf"\b({_NAME})(\s*[=:]\s*)([^\s,;&}}\]]+)", re.IGNORECASE)
_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")


def redacted_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with the values of secrets replaced."""
    return {key: REDACTED if _SECRET.fullmatch(str(key)) else _redacted(value) for key, value in options.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redacted_options(value)
    if isinstance(value, (list, tuple)):
        return [_redacted(item) for item in value]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """`text` with the values of ``secret=value`` and of user names in addresses replaced."""
    return _ADDRESS.sub(f"{REDACTED}@", _INSIDE.sub(rf"\1\2{REDACTED}", text))


def redacted_command(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line with the values of secrets replaced, however the option is written."""
    found = []
    for argument in arguments:
        name, separator, _ = argument.removeprefix("--policy-option=").removeprefix("-o").partition("=")
        whole = separator and _SECRET.fullmatch(name)  # the value may hold spaces
        found.append(f"{argument[:argument.index(name) + len(name)]}={REDACTED}" if whole else redacted_text(argument))
    return found
