"""What the tests of hostile input share: how hypothesis tries, values that break things, a value with one place spoilt.

No try is random: the same command tries the same in CI as here.
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
from typing import Any

from hypothesis import HealthCheck, configuration, settings
from hypothesis import strategies as st

configuration.set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), f"evalkit-hypothesis-{os.getuid()}"))

#: Seconds are not measured, and no failure is kept for the next run.
settings.register_profile("hostile", derandomize=True, deadline=None, database=None, print_blob=False,
                          suppress_health_check=list(HealthCheck))


def tries(count: int):
    """A property is tried so often; EVALKIT_TRIES times as often by `make fuzz`, each time in another way."""
    times = int(os.environ.get("EVALKIT_TRIES", "1"))
    return settings(settings.get_profile("hostile"), max_examples=count * times, derandomize=times == 1)


SCRIPT = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">'

#: Texts that something somewhere would obey: HTML, a script's end, JSON lines, a terminal, TeX, a table, a spreadsheet,
#: a path, an encoder, a template.
TEXTS = (
    SCRIPT, "</script><svg onload=window.pwned=1>", "<!--", "]]>", "\u2028window.pwned = 1\u2029", "&quot; x=y '\"`",
    "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "a\rb", "a\nb", "\u202egpj.exe", "\\input{/etc/passwd}", "%$#_{}~^\\",
    "a|b\\|c", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800",
    "{{ 7 * 7 }}", "{0}", "%s", "", " ", "x" * 5000, "日本語 ü",
)

#: Values of every JSON type, and those that are no JSON but that Python's parser takes.
VALUES = (None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, *TEXTS, [], {},
          [0], [[]], ["a", 1], {"": 0}, {"a": {"b": []}}, [None] * 3)

values = st.sampled_from(VALUES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)


def places(value: Any, place: tuple = ()) -> list[tuple]:
    """Keys that lead to every part of nested maps and lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in parts for found in places(part, (*place, key)))]


@st.composite
def spoilt(draw, value: Any, times: int = 2) -> Any:
    """`value` with up to `times` of its parts replaced or left out."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, times))):
        *path, last = draw(st.sampled_from(places(value)[1:] or [("",)]))
        inner = value
        for key in path:
            inner = inner[key]
        if draw(st.booleans()) or not isinstance(inner, dict):
            inner[last] = copy.deepcopy(draw(values))
        else:
            inner.pop(last, None)
    return value


@st.composite
def spoilt_bytes(draw, content: bytes) -> bytes:
    """`content` cut, with some bytes overwritten, or with some put in between."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 8)))
    return draw(st.sampled_from([content[:start], content[start:], content[:start] + draw(st.binary(max_size=8))
                                 + content[end:]]))
