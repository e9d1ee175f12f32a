"""What ``run.json`` may hold: types of what is there, for a file that was edited or that another program wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import InputError, shown


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(item) is kind for item in value)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _none_or(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _indices(most: int) -> Callable[[Any], bool]:
    return lambda value: _list_of(int)(value) and all(0 <= item < most for item in value)


def _mappings(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values())


#: Test and words for each key, by the mapping that it stands in; a key that is lacking is not looked at here.
INFO = {
    "config": (_mapping, "a mapping"),
    "planned": (_list_of(str), "a list of episode ids"),
    "fingerprints": (_mappings, "a mapping of mappings"),
    "merged": (_list_of(dict), "a list of mappings"),
    **dict.fromkeys(("command", "started"), (_text, "text")),
    **dict.fromkeys(("settings", "versions", "hardware", "git", "policy"), (_none_or(_mapping), "a mapping")),
}
CONFIG = {
    "suites": (_list_of(str), "a list of names"),
    "policy": (_text, "a name"),
    "policy_options": (_none_or(_mapping), "a mapping"),
    "tasks": (_none_or(_indices(10**6)), "null or a list of whole numbers"),
    "episodes": (lambda value: _indices(10**9)(value) and len(value) == 2, "two whole numbers"),
}
POLICY = {"checkpoint": (_none_or(_mapping), "a mapping"), "server": (_none_or(_mapping), "a mapping")}
SERVER = {"described": (_none_or(_mapping), "a mapping")}
FINGERPRINT = {
    "hash": (_text, "text"),
    "parts": (_mapping, "a mapping"),
}
PARTS = {"asset_kind": (_none_or(_text), "text")}


def check(path: Path, info: Any) -> None:
    """Raise InputError, with the key's name, if `info`, read from `path`, holds a value of another type."""
    if not isinstance(info, Mapping):
        raise InputError(f"{path} holds a {type(info).__name__} instead of a mapping: it was edited. Restore it, or "
                         "repeat the original command with another --out.")
    _check(path, "", info, INFO)
    _check(path, "config.", info.get("config", {}), CONFIG)
    policy = info.get("policy") or {}
    _check(path, "policy.", policy, POLICY)
    _check(path, "policy.server.", policy.get("server") or {}, SERVER)
    for suite, fingerprint in info.get("fingerprints", {}).items():
        _check(path, f"fingerprints.{suite}.", fingerprint, FINGERPRINT)
        _check(path, f"fingerprints.{suite}.parts.", fingerprint.get("parts", {}), PARTS)


def _check(path: Path, prefix: str, values: Mapping[str, Any], kinds: Mapping[str, tuple]) -> None:
    for key, (fits, words) in kinds.items():
        if key in values and not fits(values[key]):
            raise InputError(f"{path} has {prefix}{key} {shown(values[key])}; it must be {words}. "
                             "Restore it, or repeat the original command with another --out.")
