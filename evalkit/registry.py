"""Finds suites and policies by name. The names stand in `suites/__init__.py` and `baselines/__init__.py`."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from typing import Any

from evalkit.errors import InputError, unknown
from evalkit.policy import Policy
from evalkit.suite import Suite


def load_object(path: str) -> Any:
    """The object that ``package.module:name`` points to."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def suite_names() -> list[str]:
    """Every registered suite, in the registry's order."""
    return list(importlib.import_module("suites").SUITES)


def policy_names() -> list[str]:
    """Every registered policy, in the registry's order."""
    return list(importlib.import_module("baselines").POLICIES)


def policy_summary(name: str) -> str:
    """The first line of the policy's module docstring."""
    module = importlib.import_module(importlib.import_module("baselines").POLICIES[name].partition(":")[0])
    return (module.__doc__ or "").strip().splitlines()[0]


@cache
def load_suite(name: str) -> Suite:
    """The suite called `name`. Raises InputError with the nearest name when there is none."""
    suites = importlib.import_module("suites").SUITES
    if name not in suites:
        raise unknown("suite", name, [*suites, *suite_groups()])
    return load_object(suites[name])(name)


def suite_groups() -> dict[str, tuple[str, ...]]:
    """Names that stand for several suites: ``libero`` is the paper's four."""
    return importlib.import_module("suites").GROUPS


def expand_suites(names: list[str]) -> list[str]:
    """Suite names with groups replaced by their members, in order, each once. Raises InputError."""
    groups = suite_groups()
    expanded = [member for name in names for member in groups.get(name, (name,))]
    for name in expanded:
        load_suite(name)
    return list(dict.fromkeys(expanded))


def make_policy(name: str, suite: Suite, options: dict[str, Any]) -> Policy:
    """A light (not loaded) policy for `suite`: a registered name, or ``package.module:Class`` of the user's own.

    Raises InputError on an unknown name or option.
    """
    policies = importlib.import_module("baselines").POLICIES
    if name not in policies and ":" not in name:
        raise unknown("policy", name, policies)
    try:
        policy_class = load_object(policies.get(name, name))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot import policy {name!r}: {error}\nIt must be importable from this folder as "
                         "package.module:Class") from error
    allowed = [key for key in inspect.signature(policy_class).parameters if key != "suite"]
    for key in options:
        if key not in allowed:
            raise unknown(f"option of policy {name!r}", key, allowed)
    return policy_class(suite, **options)
