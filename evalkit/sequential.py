"""Looking at a comparison before it is complete: the looks and the budget are fixed first, the error stays 5 %.

Group-sequential boundaries (Pocock; O'Brien and Fleming) for looks at fixed shares of the planned episodes, and a test
of paired episodes that may be looked at any time (an e-process). Numbers in, a decision and the sentence to print out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from evalkit.errors import InputError, unknown
from evalkit.stats import cochran_mantel_haenszel, mean_difference

ERROR_RATE = 0.05

#: Boundary on |z| at the share t of the episodes, up to a constant: Pocock (1977); O'Brien and Fleming (1979).
RULES = {"pocock": lambda t: np.ones_like(t), "obrien_fleming": lambda t: 1 / np.sqrt(t)}
NAMES = {"pocock": "Pocock's rule", "obrien_fleming": "O'Brien and Fleming's rule", "anytime": "the anytime rule"}

CONTINUE, STOP = "continue", "stop"


@dataclass(frozen=True)
class SequentialPlan:
    """Fixed before the first episode. looks: episodes of each task (of each run) at each look, the last is the budget;
    boundaries: the |z| from which on one stops there."""

    rule: str
    looks: tuple[int, ...]
    boundaries: tuple[float, ...]

    def spent(self, looks: int) -> float:
        """Chance that the first `looks` looks stop though A and B are equal."""
        at = np.array(self.looks[:looks]) / self.looks[-1]
        return crossing_probability(self.boundaries[:looks], at)


@dataclass(frozen=True)
class Look:
    """What came of one look. better: ``A``, ``B``, or None where nothing is shown (yet)."""

    decision: str
    better: str | None
    statement: str


def plan_looks(episodes: int, looks: int | Sequence[float], rule: str = "obrien_fleming") -> SequentialPlan:
    """A plan of `looks` equally spaced looks, or at these shares of the budget of `episodes` of each task.

    Raises InputError on another rule, shares that do not rise to 1, or more looks than episodes.
    """
    if rule not in RULES:
        raise unknown("sequential rule", rule, RULES)
    if isinstance(looks, int) and looks < 1:
        raise InputError(f"a plan needs at least one look, got {looks}")
    shares = [number / looks for number in range(1, looks + 1)] if isinstance(looks, int) else list(looks)
    at = [math.ceil(share * episodes - 1e-9) for share in shares]
    if not at or at[0] < 1 or at[-1] != episodes or any(later <= sooner for sooner, later in pairwise(at)):
        raise InputError(f"looks at the shares {shares} of {episodes} episodes are not possible: shares must rise to "
                         "1, with further episodes before each look")
    fractions = np.array(at) / episodes
    shape = RULES[rule](fractions)
    constant = optimize.brentq(lambda scale: crossing_probability(scale * shape, fractions) - ERROR_RATE, 1.5, 6.0)
    return SequentialPlan(rule, tuple(at), tuple((constant * shape).tolist()))


def crossing_probability(boundaries: Sequence[float], fractions: Sequence[float], nodes: int = 160) -> float:
    """Chance that |z| reaches a boundary at any of the looks though A and B are equal.

    By recursive integration (Armitage, McPherson and Rowe 1969): the density of z sqrt(t) of comparisons that have not
    stopped, from look to look, on Gauss-Legendre nodes.
    """
    roots, weights = special.roots_legendre(nodes)
    points, density, before = np.zeros(1), np.ones(1), 0.0
    for boundary, fraction in zip(boundaries, fractions):
        limit, step = min(boundary, 9.0) * math.sqrt(fraction), math.sqrt(fraction - before)
        here = limit * roots
        moved = np.exp(-0.5 * ((here[:, None] - points) / step) ** 2) / (step * math.sqrt(2 * math.pi))
        points, density, before = here, (moved @ density) * limit * weights, fraction
    return float(1 - density.sum())


def paired_z(only_a: int | np.ndarray, only_b: int | np.ndarray) -> np.ndarray:
    """Signed McNemar z of discordant episodes, positive where B is better; 0 where there are none."""
    only_a, only_b = np.asarray(only_a, float), np.asarray(only_b, float)
    return (only_b - only_a) / np.sqrt(np.maximum(only_a + only_b, 1))


def unpaired_z(k_a: Sequence[int], n_a: Sequence[int], k_b: Sequence[int], n_b: Sequence[int]) -> float:
    """Signed root of Cochran-Mantel-Haenszel's chi-square over tasks, positive where B is better."""
    p = cochran_mantel_haenszel(k_a, n_a, k_b, n_b)
    return math.copysign(float(-special.ndtri(p / 2)), mean_difference(k_a, n_a, k_b, n_b).value)


def take_look(plan: SequentialPlan, episodes: int, z: float) -> Look:
    """Decide at a planned look, after `episodes` of each task, from all data so far.

    Raises InputError between planned looks, and where z is undefined (a task without any measured episode).
    """
    if episodes not in plan.looks:
        raise InputError(f"no look is planned after {episodes} episodes: a look between the planned ones "
                         f"({', '.join(map(str, plan.looks))}) would inflate the error. Wait for the next one.")
    if math.isnan(z):
        raise InputError(f"the look after {episodes} episodes has no z: a task has no measured episode yet")
    number = plan.looks.index(episodes)
    where = (f"look {number + 1} of {len(plan.looks)} ({episodes} of {plan.looks[-1]} episodes of each task) by "
             f"{NAMES[plan.rule]}: |z| {abs(z):.3f}")
    boundary = plan.boundaries[number]
    further = f"continue to {plan.looks[number + 1]} episodes" if episodes < plan.looks[-1] else ""
    return _decide(abs(z) >= boundary, z > 0, where, f"{boundary:.3f}", further)


def e_value(only_a: int | np.ndarray, only_b: int | np.ndarray) -> np.ndarray:
    """Evidence against equal chances of both kinds of discordant episodes: 2^N / ((N + 1) C(N, b)), N = a + b.

    The uniform mixture: starts at 1, and reaches 1 / error rate with at most that chance if A and B are equal, however
    often one looks.
    """
    only_a, only_b = np.asarray(only_a, float), np.asarray(only_b, float)
    return np.exp((only_a + only_b) * math.log(2) + special.betaln(only_a + 1, only_b + 1))


def take_anytime_look(only_a: int, only_b: int, episodes: int, budget: int) -> Look:
    """Decide after any number of paired `episodes` of a `budget` fixed beforehand: stops at an e-value of 20."""
    if not 0 <= only_a + only_b <= episodes <= budget:
        raise InputError(f"{only_a} + {only_b} discordant of {episodes} episodes with a budget of {budget} is not "
                         "possible: discordant episodes <= episodes <= budget")
    evidence = float(e_value(only_a, only_b))
    where = f"after {episodes} of {budget} paired episodes by {NAMES['anytime']}: e-value {evidence:.3g}"
    further = "continue" if episodes < budget else ""
    return _decide(evidence >= 1 / ERROR_RATE, only_b > only_a, where, f"{1 / ERROR_RATE:.0f}", further)


def _decide(crossed: bool, b_leads: bool, where: str, boundary: str, further: str) -> Look:
    better = ("B" if b_leads else "A") if crossed else None
    if crossed and further:
        return Look(STOP, better, f"stopped early, {where} >= {boundary}: {better} is better. Rates and intervals are "
                                  "optimistic after an early stop.")
    if crossed:
        return Look(STOP, better, f"{where} >= {boundary}: {better} is better. The budget is used.")
    if further:
        return Look(CONTINUE, None, f"{where} < {boundary}: {further}; nothing is shown yet.")
    return Look(STOP, None, f"{where} < {boundary}: no difference shown. The budget is used.")
