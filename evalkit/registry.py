"""Finds suites and policies by name. The names stand in `suites/__init__.py` and `baselines/__init__.py`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from evalkit.episode import stable_seed
from evalkit.errors import InputError, unknown
from evalkit.policy import FunctionPolicy, Policy
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
    """The first line of the policy's module docstring, or that it cannot be imported."""
    try:
        module = importlib.import_module(importlib.import_module("baselines").POLICIES[name].partition(":")[0])
    except Exception as error:  # the user's own module may raise anything, and costs the others nothing
        return f"cannot be imported: {type(error).__name__}: {error}"
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


def policy_class(name: str) -> Callable[..., Policy]:
    """The class of a registered policy, or of the user's own: ``path/to/file.py:Class``, ``package.module:Class``. A
    function of the user's own becomes a FunctionPolicy.

    Raises InputError when there is none.
    """
    policies = importlib.import_module("baselines").POLICIES
    if name not in policies and ":" not in name:
        raise unknown("policy", name, policies)
    path = policies.get(name, name)
    try:
        found = load_from_file(path) if path.partition(":")[0].endswith(".py") else load_object(path)
    except (ImportError, AttributeError, ValueError, OSError, SyntaxError) as error:
        raise InputError(f"cannot import policy {name!r}: {error}\nIt is path/to/file.py:Class, or "
                         "package.module:Class importable from this folder") from error
    if inspect.isfunction(found):
        return partial(FunctionPolicy, found)
    if not (inspect.isclass(found) and issubclass(found, Policy)):
        raise InputError(f"{name!r} is not a policy: it must be a class derived from evalkit.Policy, or a function "
                         "observation -> action chunk")
    return found


def load_from_file(path: str) -> Any:
    """The object that ``path/to/file.py:name`` points to; the file is imported once a process."""
    file, _, name = path.partition(":")
    full = Path(file).resolve()
    module_name = f"evalkit_user_{stable_seed(full):x}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, full)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return getattr(sys.modules[module_name], name)


def absolute_policy(name: str) -> str:
    """`name` as a process in another folder understands it."""
    file, separator, item = name.partition(":")
    return f"{Path(file).resolve()}{separator}{item}" if file.endswith(".py") else name


def absolute_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with paths that exist here made absolute, for processes in other folders."""
    return {key: str(Path(value).resolve()) if isinstance(value, str) and value and Path(value).exists() else value
            for key, value in options.items()}


def make_policy(name: str, suite: Suite, options: dict[str, Any]) -> Policy:
    """A light (not loaded) policy for `suite`, see `policy_class`. Raises InputError on an unknown name or option."""
    found = policy_class(name)
    parameters = inspect.signature(found).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        allowed = [key for key in parameters if key != "suite"]
        for key in options:
            if key not in allowed:
                raise unknown(f"option of policy {name!r}", key, allowed)
    return found(suite, **options)
