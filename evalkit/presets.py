"""Presets: a paper's evaluation protocol as values of a RunConfig, and the published result it is held against."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.config import check_types, names_of
from evalkit.errors import InputError, unknown
from evalkit.registry import expand_suites


@dataclass(frozen=True)
class Preset:
    """values: keys of a RunConfig. benchmark: whose table is printed beside the result. reference: the published rows,
    METHOD/PROTOCOL[/PART OF THE SOURCE] as for `evalkit tables --reference`. summary: one line for listings."""

    name: str
    summary: str
    values: Mapping[str, Any]
    benchmark: str
    reference: str


#: DiT4DiT's evaluation scripts (github.com/Mondo-Robotics/DiT4DiT, examples/LIBERO and examples/Robocasa_tabletop) and
#: the README's statement of how its numbers were made: LIBERO without the server's --use_bf16 flag and 8 of 8 actions
#: executed; GR1 with it and 12 of 16. Views, horizon, success rule and 50 episodes a task are the suites' own.
PRESETS = {
    preset.name: preset for preset in (
        Preset("dit4dit-paper/libero", "DiT4DiT's release on LIBERO: 40 tasks x 50 episodes, 8 of 8 executed",
               {"suites": "libero", "policy": "dit4dit", "episodes": 50, "assets": "real",
                "policy_options": {"executed_steps": 8, "dtype": "bf16"}},
               "libero", "DiT4DiT/d4d-libero/README"),
        Preset("dit4dit-paper/robocasa-gr1", "DiT4DiT's release on RoboCasa-GR1: 24 tasks x 50 episodes, 12 of 16",
               {"suites": "robocasa_gr1", "policy": "dit4dit", "episodes": 50, "assets": "real", "scenes": "upstream",
                "policy_options": {"executed_steps": 12, "dtype": "bf16_all"}},
               "robocasa_gr1", "DiT4DiT/d4d-gr1-script/pooled"),
    )
}


def find_preset(name: str) -> Preset:
    """The Preset called `name`. Raises InputError."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def with_preset(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over those of the preset; a notice names where they depart from its protocol. Raises InputError for
    suites of another benchmark."""
    preset = find_preset(name)
    check_types(values)
    _check_suites(preset, values.get("suites"))
    options = {**preset.values["policy_options"], **(values.get("policy_options") or {})}
    departing = [f"{key} {values[key]} (preset: {value})" for key, value in preset.values.items()
                 if key != "policy_options" and values.get(key) is not None and str(values[key]) != str(value)]
    departing += [f"{key} {options[key]} (preset: {value})"
                  for key, value in preset.values["policy_options"].items() if options[key] != value]
    if departing:
        print(f"notice: not the protocol of {name}: {', '.join(departing)}", file=sys.stderr)
    return {**preset.values, **{key: value for key, value in values.items() if value is not None},
            "policy_options": options}


def _check_suites(preset: Preset, given: str | Sequence[str] | None) -> None:
    allowed = expand_suites([preset.values["suites"]])
    suites = expand_suites(names_of(given or allowed))
    foreign = [suite for suite in suites if suite not in allowed]
    if foreign:
        raise InputError(f"preset {preset.name} is for {', '.join(allowed)}; got --suite {', '.join(foreign)}")
