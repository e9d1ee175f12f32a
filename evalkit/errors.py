"""What the user did wrong, or must mend, in one screen: what was got, what is allowed, the next move."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Wrong input by the user. The command line prints its text alone and exits with status 2."""


class Stopped(Exception):
    """A run cannot go on: a full disk, no worker left. What was recorded is kept, and the same command continues.

    The command line prints its text alone and exits with status 1.
    """


#: Characters of a value that an error repeats.
SHOWN = 80


def shown(value: object) -> str:
    """`value` as an error repeats it: its `repr`, cut."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def unknown(kind: str, got: object, allowed: Iterable[object]) -> InputError:
    """An InputError for a name that is not one of `allowed`, with the nearest name suggested."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(got)[:SHOWN], names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {shown(str(got))}.{hint}\nAllowed: {', '.join(names) or '(none)'}")
