"""What ``run.json`` may hold: types of what is there, for a file that was edited or that another program wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import InputError


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _mappings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values())


#: Test and words for each key, by the mapping that it stands in; a key that is lacking is not looked at here.
INFO = {
    "config": (_mapping, "a mapping"),
    "planned": (_list_of(str), "a list of episode ids"),
    "fingerprints": (_mappings, "a mapping of mappings"),
    "merged": (_list_of(dict), "a list of mappings"),
    **{key: (lambda value: value is None or _mapping(value), "a mapping")
       for key in ("settings", "versions", "hardware", "git", "policy")},
}
CONFIG = {
    "suites": (_list_of(str), "a list of names"),
    "policy": (lambda value: isinstance(value, str), "a name"),
    "policy_options": (lambda value: value is None or _mapping(value), "a mapping"),
    "tasks": (lambda value: value is None or _list_of(int)(value), "null or a list of whole numbers"),
    "episodes": (lambda value: _list_of(int)(value) and len(value) == 2, "two whole numbers"),
}
FINGERPRINT = {
    "hash": (lambda value: isinstance(value, str), "text"),
    "parts": (_mapping, "a mapping"),
}


def check(path: Path, info: Any) -> None:
    """Raise InputError, with the key's name, if `info`, read from `path`, holds a value of another type."""
    if not isinstance(info, Mapping):
        raise InputError(f"{path} holds a {type(info).__name__} instead of a mapping: it was edited. Restore it, or "
                         "repeat the original command with another --out.")
    _check(path, "", info, INFO)
    _check(path, "config.", info.get("config", {}), CONFIG)
    for suite, fingerprint in info.get("fingerprints", {}).items():
        _check(path, f"fingerprints.{suite}.", fingerprint, FINGERPRINT)


def _check(path: Path, prefix: str, values: Mapping[str, Any], kinds: Mapping[str, tuple]) -> None:
    for key, (fits, words) in kinds.items():
        if key in values and not fits(values[key]):
            shown = repr(values[key])
            raise InputError(f"{path} has {prefix}{key} {shown[:80]}{'...' * (len(shown) > 80)}; it must be {words}. "
                             "Restore it, or repeat the original command with another --out.")
