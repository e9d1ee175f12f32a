"""Parsing: YAML and JSON that others wrote. Never code, never a bomb, never a key that stands there twice."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

#: Bytes of the largest file that is parsed.
MAX_BYTES = 64 * 2**20

#: Values that a YAML document may hold, its aliases written out: ten lines of aliases to aliases make a billion.
MAX_VALUES = 100_000

#: Characters of a whole number: enough for 64 bits in binary, too few to keep Python busy.
MAX_DIGITS = 100


class ParseError(ValueError):
    """A text that is not what it should be; one line."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file of at most `MAX_BYTES`. Raises OSError, UnicodeDecodeError."""
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: over {MAX_BYTES} bytes", str(path))
    return content.decode()


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ParseError."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ParseError("it is nested too deep") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ParseError(str(error)) from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ParseError(f"key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def parse_yaml(text: str) -> Any:
    """The value of a YAML document of plain types, its aliases written out. Raises ParseError."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        if document is None:
            return None
        _count_values(document, {})
        return yaml.constructor.SafeConstructor().construct_document(document)
    except RecursionError as error:
        raise ParseError("it is nested too deep") from error
    except ParseError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:  # as for !!timestamp x
        raise ParseError(" ".join(str(error).split())) from error


def _count_values(node: yaml.Node, counts: dict[int, int | None]) -> int:
    """How many values stand in `node`, each alias counted as what it stands for. Raises ParseError when there are too
    many, when an alias stands in itself, for numbers without end, and for a key that stands there twice."""
    if id(node) in counts:
        known = counts[id(node)]
        if known is None:
            raise ParseError("an alias stands inside what it stands for")
        return known
    counts[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            raise ParseError(f"a number of {len(node.value)} digits")
        parts: list[yaml.Node] = []
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value
    total = 1 + sum(_count_values(part, counts) for part in parts)
    if total > MAX_VALUES:
        raise ParseError(f"it holds more than {MAX_VALUES} values, aliases written out")
    counts[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode) -> None:
    names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(names)) < len(names):
        raise ParseError(f"key {next(name for name in names if names.count(name) > 1)[1]!r} stands there twice")
