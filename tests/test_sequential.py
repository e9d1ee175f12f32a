"""Sequential comparisons: published boundaries, real false-positive rates, and the words of each decision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from evalkit.errors import InputError
from evalkit.sequential import (
    CONTINUE,
    STOP,
    crossing_probability,
    e_value,
    paired_z,
    plan_looks,
    take_anytime_look,
    take_look,
    unpaired_z,
)


@pytest.mark.parametrize("looks, pocock, nominal, obrien_fleming", [
    (1, 1.960, 0.0500, (1.960,)),
    (2, 2.178, 0.0294, (2.797, 1.977)),
    (3, 2.289, 0.0221, (3.471, 2.454, 2.004)),
    (4, 2.361, 0.0182, (4.049, 2.863, 2.337, 2.024)),
    (5, 2.413, 0.0158, (4.562, 3.226, 2.634, 2.281, 2.040)),
])
def test_boundaries(looks, pocock, nominal, obrien_fleming):
    """The published boundaries for equally spaced looks, two-sided 5 %, to three decimals."""
    plan = plan_looks(600, looks, "pocock")
    assert plan.looks == tuple(600 * number // looks for number in range(1, looks + 1))
    assert plan.boundaries == pytest.approx([pocock] * looks, abs=6e-4)
    assert 2 * norm.sf(plan.boundaries[0]) == pytest.approx(nominal, abs=6e-5)
    assert plan_looks(600, looks, "obrien_fleming").boundaries == pytest.approx(obrien_fleming, abs=6e-4)


@pytest.mark.parametrize("looks, percent", [(1, 5.0), (2, 8.3), (3, 10.7), (4, 12.6), (5, 14.2), (10, 19.3),
                                            (20, 24.8)])
def test_testing_at_every_look_inflates_the_error(looks, percent):
    """5 % at each of several looks: the published chance of at least one false alarm."""
    fractions = np.arange(1, looks + 1) / looks
    assert 100 * crossing_probability([1.959964] * looks, fractions) == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize("rule", ["pocock", "obrien_fleming"])
def test_unequal_looks_keep_the_error(rule):
    """Shares of any spacing: the boundaries cross with 5 %, the last of many looks included."""
    for shares in ([0.1, 0.15, 0.6, 1.0], [number / 20 for number in range(1, 21)]):
        plan = plan_looks(1200, shares, rule)
        fractions = np.array(plan.looks) / 1200
        assert crossing_probability(plan.boundaries, fractions, nodes=400) == pytest.approx(0.05, abs=1e-6)


def test_looks_round_up_to_whole_episodes():
    """Three looks at 100 episodes are after 34, 67 and 100."""
    assert plan_looks(100, 3).looks == (34, 67, 100)


@pytest.mark.parametrize("rule", ["pocock", "obrien_fleming"])
def test_false_positives_of_paired_comparisons(rule):
    """4,000 comparisons of equal policies, 24 x 50 episodes of which a quarter are discordant, five looks."""
    plan, generator, repetitions = plan_looks(1200, 5, rule), np.random.default_rng(0), 4000
    steps = generator.multinomial(240, [0.125, 0.125, 0.75], (repetitions, 5)).cumsum(1)
    wrong = 0
    for comparison in steps:
        wrong += any(take_look(plan, episodes, paired_z(only_a, only_b)).better is not None
                     for episodes, (only_a, only_b, _) in zip(plan.looks, comparison))
    assert 0.035 <= wrong / repetitions <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)


def test_false_positives_of_unpaired_comparisons():
    """2,000 comparisons of equal policies on ten tasks between 20 and 95 %, four looks at 10 episodes a task."""
    plan, generator, repetitions = plan_looks(400, 4, "pocock"), np.random.default_rng(0), 2000
    rates = np.linspace(0.2, 0.95, 10)
    runs = generator.binomial(10, rates, (repetitions, 2, 4, 10)).cumsum(2)
    wrong = 0
    for a, b in runs:
        for number, episodes in enumerate(plan.looks):
            n = [10 * (number + 1)] * 10
            if take_look(plan, episodes, unpaired_z(a[number], n, b[number], n)).decision == STOP:
                wrong += number < 3 or abs(unpaired_z(a[number], n, b[number], n)) >= plan.boundaries[-1]
                break
    assert 0.03 <= wrong / repetitions <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)


def test_false_positives_of_anytime_looks():
    """4,000 comparisons of equal policies looked at after each of 400 discordant pairs: about 3 %, never above 5 %."""
    falls = np.random.default_rng(0).random((4000, 400)) < 0.5
    only_a = falls.cumsum(1)
    wrong = (e_value(only_a, np.arange(1, 401) - only_a) >= 20).any(1).mean()
    assert 0.02 <= wrong <= 0.05
    assert wrong == pytest.approx(0.033, abs=3 * math.sqrt(0.033 / 4000))


def test_a_real_difference_stops_early():
    """Ten points between paired runs: most comparisons stop before the budget, nearly all in favour of B."""
    plan, generator = plan_looks(1200, 5), np.random.default_rng(0)
    stopped = []
    for steps in generator.multinomial(240, [0.08, 0.18, 0.74], (300, 5)).cumsum(1):
        looks = [take_look(plan, episodes, paired_z(a, b)) for episodes, (a, b, _) in zip(plan.looks, steps)]
        stopped.append(next((look.better, number) for number, look in enumerate(looks) if look.decision == STOP))
    assert all(better == "B" for better, _ in stopped)
    assert np.mean([number < 4 for _, number in stopped]) > 0.95


@pytest.mark.parametrize("a, b, value", [(0, 0, 1), (5, 0, 5.333333), (7, 0, 16), (8, 0, 28.444444), (9, 1, 9.309091),
                                         (11, 1, 26.256410), (14, 2, 32.125490), (20, 8, 2.978147)])
def test_e_values(a, b, value):
    """Published values, either way round."""
    assert e_value(a, b) == pytest.approx(value, abs=1e-6)
    assert e_value(b, a) == pytest.approx(value, abs=1e-6)


def test_z_by_hand():
    """(c - b) / sqrt(b + c), its sign towards B; CMH of (30, 10) against (25, 5) of 50: -sqrt(2.64)."""
    assert paired_z([2, 9, 0], [11, 0, 0]) == pytest.approx([9 / math.sqrt(13), -3.0, 0.0])
    assert unpaired_z([30, 10], [50, 50], [25, 5], [50, 50]) == pytest.approx(-math.sqrt(2.64))
    assert unpaired_z([25, 5], [50, 50], [30, 10], [50, 50]) == pytest.approx(math.sqrt(2.64))
    assert unpaired_z([50], [50], [50], [50]) == 0.0 and math.isnan(unpaired_z([0], [0], [1], [1]))


def test_words_of_a_look():
    """Two looks, bounds 2.797 and 1.977: continue, stop early, stop at the end with and without a finding."""
    plan = plan_looks(600, 2)
    early = take_look(plan, 300, 2.0)
    assert (early.decision, early.better) == (CONTINUE, None)
    assert early.statement == ("look 1 of 2 (300 of 600 episodes of each task) by O'Brien and Fleming's rule: |z| "
                               "2.000 < 2.797: continue to 600 episodes; nothing is shown yet.")
    stopped = take_look(plan, 300, -3.0)
    assert (stopped.decision, stopped.better) == (STOP, "A")
    assert stopped.statement.startswith("stopped early, look 1 of 2") and "optimistic" in stopped.statement
    assert take_look(plan, 600, 2.0).better == "B" and "early" not in take_look(plan, 600, 2.0).statement
    nothing = take_look(plan, 600, 1.9)
    assert (nothing.decision, nothing.better) == (STOP, None) and "no difference shown" in nothing.statement


def test_words_of_an_anytime_look():
    """8 discordant episodes all for A stop (28.4 >= 20), 7 do not (16), and the budget ends it."""
    assert take_anytime_look(7, 0, 30, 100).decision == CONTINUE
    stopped = take_anytime_look(8, 0, 31, 100)
    assert (stopped.decision, stopped.better) == (STOP, "A") and "28.4 >= 20" in stopped.statement
    over = take_anytime_look(7, 0, 100, 100)
    assert (over.decision, over.better) == (STOP, None) and "no difference shown" in over.statement


@pytest.mark.parametrize("episodes, looks, rule", [(100, 0, "pocock"), (100, [0.5], "pocock"), (100, [], "pocock"),
                                                   (100, [0.5, 0.4, 1], "pocock"), (3, 5, "pocock"),
                                                   (100, [0.0, 1.0], "pocock"), (100, 2, "pockock")])
def test_impossible_plans(episodes, looks, rule):
    """Shares that do not rise to 1, more looks than episodes, another rule."""
    with pytest.raises(InputError):
        plan_looks(episodes, looks, rule)


def test_impossible_looks():
    """Between planned looks, without z, or with more episodes than the budget has."""
    plan = plan_looks(600, 2)
    with pytest.raises(InputError, match=r"no look is planned after 301 episodes.*300, 600"):
        take_look(plan, 301, 3.0)
    with pytest.raises(InputError, match="no measured episode"):
        take_look(plan, 300, math.nan)
    with pytest.raises(InputError, match="budget of 100"):
        take_anytime_look(1, 1, 101, 100)
