"""Finds suites and policies by name. The names stand in `suites/__init__.py` and `baselines/__init__.py`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from evalkit.episode import stable_seed
from evalkit.errors import InputError, shown, unknown
from evalkit.policy import FunctionPolicy, Policy
from evalkit.specs import PolicySpec
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
    if name.endswith(".py"):
        raise InputError(f"policy {shown(name)} is a file; say which class or function of it: {name}:MyPolicy")
    if name not in policies and ":" not in name:
        raise unknown("policy", name, policies)
    path = policies.get(name, name)
    try:
        found = load_from_file(path) if path.partition(":")[0].endswith(".py") else load_object(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a module raises whatever it likes while it is imported
        raise InputError(f"cannot import policy {shown(name)}: {_in_one_line(error)}\nIt is path/to/file.py:Class, or "
                         "package.module:Class importable from this folder") from error
    if inspect.isfunction(found):
        return partial(FunctionPolicy, found)
    if not (inspect.isclass(found) and issubclass(found, Policy)):
        raise InputError(f"{name!r} is not a policy: it must be a class derived from evalkit.Policy, or a function "
                         "observation -> action chunk")
    if inspect.isabstract(found):
        raise InputError(f"policy {name!r} lacks {', '.join(sorted(found.__abstractmethods__))}; see evalkit.Policy")
    return found


def _in_one_line(error: BaseException) -> str:
    """Kind, text and place of an exception: the innermost line of the file that was imported."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    told = isinstance(error, (ImportError, SyntaxError, OSError)) or place.filename == __file__  # the text has it
    return f"{type(error).__name__}: {str(error)[:500]}" + ("" if told else f" ({place.filename}, line {place.lineno})")


def load_from_file(path: str) -> Any:
    """The object that ``path/to/file.py:name`` points to; the file is imported once a process. Raises InputError when
    the file has no such name, and whatever the file raises."""
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
    module = sys.modules[module_name]
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise unknown(f"policy in {file}:", name, own)
    return getattr(module, name)


def absolute_policy(name: str) -> str:
    """`name` as a process in another folder understands it."""
    file, separator, item = name.partition(":")
    return f"{Path(file).resolve()}{separator}{item}" if file.endswith(".py") else name


def absolute_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with paths that exist here made absolute, for processes in other folders."""
    return {key: str(Path(value).resolve()) if isinstance(value, str) and value and os.path.exists(value) else value
            for key, value in options.items()}


def make_policy(name: str, suite: Suite, options: dict[str, Any]) -> Policy:
    """A light (not loaded) policy for `suite`, see `policy_class`. Raises InputError on an unknown name or option, and
    on a value of another type than the option's."""
    found = policy_class(name)
    signature = inspect.signature(found)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        allowed = [key for key in signature.parameters if key != "suite"]
        for key in options:
            if key not in allowed:
                raise unknown(f"option of policy {name!r}", key, allowed)
    for key, value in options.items():
        if isinstance(value, str) and "\0" in value:
            raise InputError(f"option {key} of policy {name!r} is {shown(value)}; it must not hold a null character")
    try:
        signature.bind(suite, **options)
    except TypeError as error:
        raise InputError(f"policy {name!r} cannot be made for a suite with {', '.join(options) or 'no options'}: "
                         f"{error}") from error
    try:
        policy = found(suite, **options)
    except OSError as error:
        raise InputError(f"policy {name!r}: {error.strerror}: {shown(error.filename)}") from error
    except (TypeError, ValueError, AttributeError) as error:
        problem = _wrong_type(found, options)
        if problem is None:
            raise
        raise InputError(f"policy {name!r}: {problem}") from error
    if not isinstance(getattr(policy, "spec", None), PolicySpec):
        raise InputError(f"policy {name!r} has no spec: its constructor must set self.spec = PolicySpec(...)")
    return policy


#: Words for the types of options.
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def _wrong_type(constructor: Callable[..., Policy], options: Mapping[str, Any]) -> str | None:
    """The option whose value is not of the type that the constructor declares, in words, or None."""
    try:
        parameters = inspect.signature(constructor, eval_str=True).parameters
    except NameError:  # a type that is imported for type checkers only
        return None
    for key, value in options.items():
        declared = parameters[key].annotation if key in parameters else None
        types = [typing.get_origin(kind) or kind for kind in typing.get_args(declared) or [declared]]
        allowed = tuple(kind for kind in types if isinstance(kind, type) and kind is not inspect.Parameter.empty)
        if allowed and not isinstance(value, (*allowed, *((int,) if float in allowed else ()))):
            return f"option {key} is {shown(value)}; it must be " + " or ".join(
                _WORDS.get(kind, kind.__name__) for kind in allowed)
    return None
