"""Upstream's success, asked only where things can be at their goal: its predicates cost more than what tells so."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Predicates that change nothing when asked; those of switches change a burner's looks (objects/articulated_objects.py
#: `turn_on`), so upstream's are asked at every step, as upstream does.
_PURE = frozenset({"in", "on", "open", "close"})

#: What lies in or on a site is at most this much farther from it than the site's half diagonal (objects/site_object.py
#: `in_box`: 0.01 m, `under`: 0.10 m), and what lies on an object this far along any axis but the vertical one
#: (object_states/base_object_states.py `check_ontop`: 0.03 m). In metres, with room for rounding.
_ABOVE_SITE, _ON_OBJECT = 0.11, 0.031


class Goal:
    """Success of upstream's environment `inner`: a conjunction, so one part that cannot hold is enough."""

    def __init__(self, inner: Any) -> None:
        self._inner, parts = inner, inner.parsed_problem["goal_state"]
        self._pure = {part[0].lower() for part in parts} <= _PURE
        self._parts = sorted(parts, key=len)  # joints first
        self._near = [near for part in parts if (near := _near(inner, *part)) is not None] if self._pure else []

    def __call__(self) -> bool:
        for thing, target, reach in self._near:
            if abs(thing.item(0) - target.item(0)) > reach or abs(thing.item(1) - target.item(1)) > reach:
                return False
        if self._pure:
            return all(self._inner._eval_predicate(part) for part in self._parts)
        return bool(self._inner._check_success())


def _near(inner: Any, predicate: str, first: str, second: str | None = None) -> tuple | None:
    """(position of a thing, of its target, how far apart they may be along x or y while `predicate` holds); positions
    (3,) in the world are mjData's own. None if nothing is known."""
    data, states = inner.sim.data._data, inner.object_states_dict
    if second is None or states[first].object_state_type != "object":
        return None
    thing = data.xpos[inner.obj_body_id[first]]
    if states[second].object_state_type == "site":
        site = inner.object_sites_dict[second]
        if predicate.lower() == "on" and not hasattr(site, "under"):
            return None  # always holds
        return thing, data.site_xpos[inner.sim.model.site_name2id(second)], np.linalg.norm(site.size) + _ABOVE_SITE
    if predicate.lower() == "on":
        return thing, data.xpos[inner.obj_body_id[second]], _ON_OBJECT
    return None
