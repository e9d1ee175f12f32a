"""Statistics: hand-worked and published values, properties at the ends, agreement with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from evalkit.stats import (
    boschloo,
    clopper_pearson,
    cochran_mantel_haenszel,
    delta_interval,
    detectable_difference,
    effective_size,
    episodes_needed,
    holm,
    jeffreys,
    mcnemar,
    mean_difference,
    mean_rate,
    mean_rate_interval,
    newcombe,
    paired_mean_difference,
    power_of,
    probability_better,
    wilson,
)

Z2 = 1.959963984540054**2

#: successes, n, then low and high of Wilson, Clopper-Pearson and Jeffreys; 95 %.
INTERVALS = [
    (0, 1, 0.000000, 0.793451, 0.000000, 0.975000, 0.000386, 0.853254),
    (1, 1, 0.206549, 1.000000, 0.025000, 1.000000, 0.146746, 0.999614),
    (0, 5, 0.000000, 0.434482, 0.000000, 0.521824, 0.000093, 0.379377),
    (3, 5, 0.230724, 0.882379, 0.146633, 0.947255, 0.209417, 0.905610),
    (5, 5, 0.565518, 1.000000, 0.478176, 1.000000, 0.620623, 0.999907),
    (0, 50, 0.000000, 0.071348, 0.000000, 0.071122, 0.000010, 0.048758),
    (1, 50, 0.003539, 0.104954, 0.000506, 0.106470, 0.002166, 0.089680),
    (25, 50, 0.366445, 0.633555, 0.355273, 0.644727, 0.364686, 0.635314),
    (27, 50, 0.403989, 0.670303, 0.393242, 0.681851, 0.402866, 0.672649),
    (28, 50, 0.423060, 0.688378, 0.412544, 0.700093, 0.422275, 0.690999),
    (40, 50, 0.669629, 0.887562, 0.662817, 0.899698, 0.674173, 0.892266),
    (49, 50, 0.895046, 0.996461, 0.893530, 0.999494, 0.910320, 0.997834),
    (50, 50, 0.928652, 1.000000, 0.928878, 1.000000, 0.951242, 0.999990),
    (0, 500, 0.000000, 0.007624, 0.000000, 0.007351, 0.000001, 0.005009),
    (483, 500, 0.946229, 0.978665, 0.946120, 0.980071, 0.947335, 0.979301),
    (493, 500, 0.971387, 0.993202, 0.971368, 0.994353, 0.972710, 0.993717),
    (500, 500, 0.992376, 1.000000, 0.992649, 1.000000, 0.994991, 0.999999),
    (680, 1200, 0.538461, 0.594447, 0.538078, 0.594928, 0.538497, 0.594515),
    (681, 1200, 0.539298, 0.595271, 0.538916, 0.595753, 0.539335, 0.595340),
    (1972, 2000, 0.979840, 0.990296, 0.979829, 0.990677, 0.980124, 0.990473),
]

#: Successes of 50 on 24 tasks, a published run; their sum is 680.
RUN = [25, 40, 25, 29, 20, 30, 27, 25, 40, 26, 22, 29, 32, 33, 22, 32, 25, 29, 31, 26, 32, 34, 25, 21]

EVERY = [(k, n) for n in (1, 2, 3, 7, 10, 50) for k in range(n + 1)]


def near(*values: float):
    return pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("k, n, low, high, exact_low, exact_high, jeffreys_low, jeffreys_high", INTERVALS)
def test_interval_values(k, n, low, high, exact_low, exact_high, jeffreys_low, jeffreys_high):
    """The three intervals of one rate, to six digits."""
    assert wilson(k, n) == near(low, high)
    assert clopper_pearson(k, n) == near(exact_low, exact_high)
    assert jeffreys(k, n) == near(jeffreys_low, jeffreys_high)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("ours, method", [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_intervals_agree_with_scipy(ours, method, confidence):
    """scipy's own intervals are the same at every count and confidence."""
    for k, n in EVERY:
        theirs = binomtest(k, n).proportion_ci(confidence, method)
        assert ours(k, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_intervals_hold_the_rate_and_stay_in_range(interval):
    """0 <= low <= k/n <= high <= 1, without tolerance."""
    for k, n in EVERY:
        low, high = interval(k, n)
        assert 0 <= low <= k / n <= high <= 1


@pytest.mark.parametrize("interval", [wilson, clopper_pearson, jeffreys])
def test_intervals_are_symmetric(interval):
    """Failures have the mirrored interval of successes."""
    for k, n in EVERY:
        low, high = interval(k, n)
        assert interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("n", [1, 5, 50, 500, 2.5])
def test_wilson_at_the_ends(n):
    """0/n is exactly [0, z^2 / (n + z^2)], n/n its mirror; never a point."""
    assert wilson(0, n) == (0.0, pytest.approx(Z2 / (n + Z2), abs=1e-12))
    assert wilson(n, n) == (pytest.approx(n / (n + Z2), abs=1e-12), 1.0)


def test_more_episodes_narrow_the_interval():
    """At one rate the interval shrinks with n, and grows with the confidence."""
    widths = [np.diff(wilson(n / 2, n))[0] for n in (2, 10, 50, 250)]
    assert widths == sorted(widths, reverse=True)
    assert np.diff(wilson(5, 10, 0.99))[0] > np.diff(wilson(5, 10, 0.95))[0]


@pytest.mark.parametrize("interval", [wilson, clopper_pearson, jeffreys])
def test_nothing_measured_is_no_interval(interval):
    """n = 0 gives NaN, never 0 %."""
    assert all(math.isnan(limit) for limit in interval(0, 0))


@pytest.mark.parametrize("k, n", [(-1, 5), (6, 5), (1, 0)])
@pytest.mark.parametrize("interval", [wilson, clopper_pearson, jeffreys])
def test_impossible_counts(interval, k, n):
    """Counts that cannot be are refused."""
    with pytest.raises(ValueError):
        interval(k, n)


def test_average_of_equal_tasks():
    """24 x 50: the mean is the pooled rate and the interval is Wilson at n_eff = 1200."""
    assert sum(RUN) == 680
    assert mean_rate(RUN, [50] * 24) == pytest.approx(0.566667, abs=1e-6)
    assert mean_rate_interval(RUN, [50] * 24) == near(0.538461, 0.594447)


def test_average_of_unequal_tasks():
    """17 of 40 in place of the last 21 of 50: the mean of rates is not the pooled rate 0.568067."""
    k, n = [*RUN[:-1], 17], [50] * 23 + [40]
    assert mean_rate(k, n) == pytest.approx(0.566875, abs=1e-6)
    assert mean_rate_interval(k, n) == near(0.538523, 0.594796)


def test_average_by_hand():
    """5, 3, 0 of 5: mean (1 + 0.6 + 0) / 3 = 8/15, n_eff = 9 / (3/5) = 15, so Wilson of 8/15."""
    assert mean_rate([5, 3, 0], [5, 5, 5]) == pytest.approx(8 / 15, abs=1e-12)
    assert mean_rate_interval([5, 3, 0], [5, 5, 5]) == near(0.301170, 0.751905)
    assert mean_rate_interval([5, 3, 0], [5, 5, 5]) == pytest.approx(wilson(8, 15), abs=1e-12)


def test_average_at_the_ends():
    """All or nothing keeps an interval: 24 x 0/50 and 10 x 50/50."""
    assert mean_rate_interval([0] * 24, [50] * 24) == near(0.0, 0.003191)
    assert mean_rate_interval([50] * 10, [50] * 10) == near(0.992376, 1.0)
    assert mean_rate_interval([1, 3, 7], [1, 3, 7])[1] == 1.0  # n_eff is no whole number here


def test_average_of_one_task_is_its_interval():
    """T = 1: nothing but Wilson."""
    assert mean_rate_interval([3], [5]) == pytest.approx(wilson(3, 5), abs=1e-12)


@pytest.mark.parametrize("k, n", [([], []), ([0], [0]), ([5, 0], [5, 0])])
def test_average_over_fewer_tasks_is_refused(k, n):
    """A task without any measured episode leaves no average and no interval."""
    assert math.isnan(mean_rate(k, n)) and all(math.isnan(limit) for limit in mean_rate_interval(k, n))


def test_average_does_not_depend_on_the_order():
    """Tasks may come in any order, as lists or arrays."""
    k, n = [5, 3, 0, 7], [5, 10, 5, 7]
    expected = mean_rate_interval(k, n)
    assert mean_rate_interval(np.array(k[::-1]), np.array(n[::-1])) == pytest.approx(expected, abs=1e-12)


def test_delta_interval_values():
    """The normal interval of an average: 24 x 50, unequal n, and 5, 3, 0 of 5 by hand."""
    run = delta_interval(RUN, [50] * 24)
    assert (run.value, run.se, run.low, run.high) == near(0.566667, 0.013986, 0.539254, 0.594079)
    assert delta_interval([*RUN[:-1], 17], [50] * 23 + [40]).se == pytest.approx(0.014063, abs=1e-6)
    assert effective_size([50] * 23 + [40]) == pytest.approx(1187.628866, abs=1e-6)
    by_hand = delta_interval([5, 3, 0], [5, 5, 5])
    assert by_hand.se == pytest.approx(math.sqrt(0.6 * 0.4 / 5) / 3, abs=1e-12)
    assert (by_hand.low, by_hand.high) == near(0.390198, 0.676469)
    assert math.isnan(delta_interval([5, 0], [5, 0]).value)


@pytest.mark.parametrize("n, points", [(50, 13.9), (20, 21.9), (10, 31.0), (100, 9.8)])
def test_one_task_is_uncertain(n, points):
    """Half a task's normal interval at 50 %, in points: 1.96 x 7.07 at 50 episodes."""
    interval = delta_interval([n / 2], [n])
    assert 50 * (interval.high - interval.low) == pytest.approx(points, abs=0.05)


def test_bootstrap_agrees_with_the_delta_interval():
    """Resampling episodes within each task gives the normal interval's limits, within the simulation's error."""
    means = np.random.default_rng(0).binomial(50, np.array(RUN) / 50, (100_000, 24)).mean(1) / 50
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx([0.5392, 0.5942], abs=5e-4)


#: Successes of 250 on 24 tasks, five published runs of one policy; their sum is 3412 of 6000.
POOLED = np.array([162, 194, 119, 133, 134, 188, 141, 122, 125, 159, 152, 104, 158, 132, 160, 174, 139, 148, 171, 119,
                   90, 142, 101, 145]) / 250


def sum_distribution(rates, n, step=1):
    """Exact chances of the sum over tasks of their successes in `n` episodes, every success counting `step`."""
    chances = np.ones(1)
    for rate in rates:
        task = np.zeros(n * step + 1)
        task[::step] = binom.pmf(np.arange(n + 1), n, rate)
        chances = np.convolve(chances, task)
    return chances


def filled(total, sizes):
    """Counts whose sum is `total`, each task filled before the next: the interval depends on their mean alone."""
    before = np.cumsum(sizes) - sizes
    return np.clip(total - before, 0, sizes)


@pytest.mark.parametrize("rates, n, coverage", [
    (POOLED, 50, 95.8), (POOLED, 20, 95.8), (POOLED, 10, 95.3), (POOLED, 5, 95.3),
    (np.full(10, 0.986), 50, 96.7), (np.full(10, 0.986), 10, 94.8), (np.full(10, 0.986), 5, 96.5),
    (np.full(10, 0.999), 50, 90.8), (np.linspace(0.02, 0.98, 24), 50, 98.2),
])
def test_coverage_of_the_average(rates, n, coverage):
    """How often the interval holds the true average, in percent: exact here, published from 40,000 repetitions."""
    sizes, held = np.full(len(rates), n), 0.0
    for total, chance in enumerate(sum_distribution(rates, n)):
        if chance > 1e-9:
            low, high = mean_rate_interval(filled(total, sizes), sizes)
            held += chance * (low <= rates.mean() <= high)
    assert 100 * held == pytest.approx(coverage, abs=0.3)


def test_coverage_of_the_average_with_unequal_tasks():
    """Twelve tasks of 50 and twelve of 25 episodes: a success of the latter counts twice, in 1 / (24 x 50)."""
    sums = np.convolve(sum_distribution(POOLED[:12], 50), sum_distribution(POOLED[12:], 25, step=2))
    size = effective_size([50] * 12 + [25] * 12)
    limits = [wilson(min(total / 1200 * size, size), size) for total in range(1201)]
    held = sum(chance for chance, (low, high) in zip(sums, limits) if low <= POOLED.mean() <= high)
    assert 100 * held == pytest.approx(95.3, abs=0.3)
    k, n = [25] * 12 + [10] * 12, [50] * 12 + [25] * 12  # total 25 x 12 + 2 x 10 x 12 = 540
    assert mean_rate_interval(k, n) == pytest.approx(limits[540], abs=1e-12)


@pytest.mark.parametrize("rate, n, coverage", [(0.986, 50, 91.4), (0.986, 10, 74.9), (0.999, 50, 39.7)])
def test_delta_interval_collapses_on_easy_suites(rate, n, coverage):
    """The published shortfall of the normal interval on 10 easy tasks; 2,000 repetitions, within three errors."""
    runs = np.random.default_rng(0).binomial(n, rate, (2000, 10))
    intervals = [delta_interval(k, [n] * 10) for k in runs]
    held = np.mean([interval.low <= rate <= interval.high for interval in intervals])
    assert 100 * held == pytest.approx(coverage, abs=300 * math.sqrt(held * (1 - held) / 2000))


@pytest.mark.parametrize("a, b, low, high", [
    ((28, 50), (38, 50), 0.014337, 0.367829), ((40, 50), (48, 50), 0.031095, 0.293549),
    ((27, 50), (30, 50), -0.129932, 0.243995), ((0, 50), (0, 50), -0.071348, 0.071348),
    ((483, 500), (493, 500), 0.000662, 0.041042), ((680, 1200), (689, 1200), -0.032064, 0.047030),
])
def test_newcombe_values(a, b, low, high):
    """Interval of one difference B - A; mirrored when A and B are exchanged; statsmodels' is the same."""
    assert newcombe(*a, *b) == near(low, high)
    assert newcombe(*b, *a) == near(-high, -low)
    assert newcombe(*a, *b) == near(*confint_proportions_2indep(*b, *a, method="newcomb", compare="diff"))


@pytest.mark.parametrize("a, b, p", [
    ((0, 5), (5, 5), 0.001953), ((1, 5), (4, 5), 0.109375), ((2, 10), (7, 10), 0.041389), ((3, 10), (7, 10), 0.115318),
    ((7, 10), (12, 30), 0.121966), ((25, 50), (35, 50), 0.044463), ((28, 50), (37, 50), 0.062736),
    ((28, 50), (38, 50), 0.036801), ((28, 50), (17, 50), 0.030129), ((28, 50), (18, 50), 0.050646),
    ((40, 50), (48, 50), 0.020979), ((40, 50), (47, 50), 0.053551), ((40, 50), (30, 50), 0.035202),
    ((45, 50), (49, 50), 0.144864), ((50, 50), (50, 50), 1.0), ((0, 50), (0, 50), 1.0),
    ((9, 10), (15, 30), 0.025173),   # 0.027255 with the arms as rows
    ((493, 500), (482, 500), 0.035915),
])
def test_boschloo_values(a, b, p):
    """Published values, arms of unequal size among them; A and B may be exchanged."""
    assert boschloo(*a, *b) == pytest.approx(p, abs=2e-6)
    if a[1] < 500:
        assert boschloo(*b, *a) == pytest.approx(p, abs=2e-6)


@pytest.mark.parametrize("k, below, above", [(28, 17, 38), (40, 30, 48), (25, 15, 35), (50, 45, None), (0, None, 5)])
def test_smallest_significant_opponents(k, below, above):
    """The nearest counts of 50 that Boschloo's test tells from k of 50 at 5 %."""
    for other, step in ((below, 1), (above, -1)):
        if other is not None:
            assert boschloo(k, 50, other, 50) < 0.05 < boschloo(k, 50, other + step, 50)


def test_boschloo_by_hand_and_at_the_ends():
    """0/5 against 5/5 is 2 x (1/2)^10; one episode each tells nothing; no episode is no test; 6 of 5 is refused."""
    assert boschloo(0, 5, 5, 5) == pytest.approx(2 / 2**10, abs=1e-9)
    assert boschloo(0, 1, 1, 1) == pytest.approx(0.5, abs=1e-9)
    assert math.isnan(boschloo(0, 0, 3, 5))
    with pytest.raises(ValueError):
        boschloo(6, 5, 3, 5)


@pytest.mark.parametrize("p, adjusted", [
    ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
    ([0.001, 0.01, 0.02, 0.03, 0.04], [0.005, 0.04, 0.06, 0.06, 0.06]),
    ([0.02, 0.02, 0.5], [0.06, 0.06, 0.5]), ([0.3], [0.3]), ([0.9, 0.8], [1.0, 1.0]), ([], []),
])
def test_holm_values(p, adjusted):
    """By hand: sorted, times the number of hypotheses left, never falling, at most 1; in the order given."""
    assert holm(p) == pytest.approx(adjusted, abs=1e-12)


def test_holm_agrees_with_statsmodels():
    """statsmodels' adjustment is the same (it collects garbage at each call, which takes a fifth of a second)."""
    p = np.random.default_rng(0).random(24) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_holm_leaves_out_what_was_not_tested():
    """NaN stays NaN and does not count as a test."""
    adjusted = holm([0.02, math.nan, 0.5])
    assert adjusted[::2] == pytest.approx([0.04, 0.5]) and math.isnan(adjusted[1])


@pytest.mark.parametrize("b, c, exact, mid", [
    (0, 0, 1, 1), (0, 1, 1, 0.5), (1, 1, 1, 1), (0, 5, 0.0625, 0.03125), (0, 6, 0.03125, 0.015625),
    (1, 5, 0.21875, 0.125), (1, 7, 0.070312, 0.039062), (1, 8, 0.039062, 0.021484), (2, 9, 0.065430, 0.038574),
    (3, 10, 0.092285, 0.057373), (5, 15, 0.041389, 0.026604), (6, 16, 0.052479, 0.034690), (6, 17, 0.034690, 0.022656),
    (8, 8, 1, 1), (10, 24, 0.024307, 0.016674), (12, 25, 0.047031, 0.033552),
])
def test_mcnemar_values(b, c, exact, mid):
    """Published values of the exact and the mid-p test, either way round."""
    for one, other in ((b, c), (c, b)):
        assert mcnemar(one, other, mid=False) == pytest.approx(exact, abs=1e-6)
        assert mcnemar(one, other) == pytest.approx(mid, abs=1e-6)


def test_paired_difference_values():
    """Three tasks of 50, only B 6, 2, 9 and only A 1, 3, 2: D 11/150, 23 discordant episodes: the normal interval."""
    found = paired_mean_difference([1, 3, 2], [6, 2, 9], [50] * 3)
    assert found.value == pytest.approx(11 / 150, abs=1e-12)
    assert (found.se, found.low, found.high) == near(0.030912, 0.012747, 0.133920)
    assert mcnemar(6, 17) == pytest.approx(0.022656, abs=1e-6)


def test_paired_difference_does_not_collapse():
    """Equal runs of 10 episodes: Bonett and Price by hand, (b + 1) / (n + 2) = 1/12 each way, SE sqrt(2/12/12)."""
    found = paired_mean_difference([0], [0], [10])
    half = norm.ppf(0.975) * math.sqrt(1 / 72)
    assert (found.value, found.se) == (0.0, 0.0)
    assert (found.low, found.high) == pytest.approx((-half, half), abs=1e-12)
    sure = paired_mean_difference([0], [1], [1])
    assert sure.value == 1.0 and sure.low < 0 and sure.high == 1.0


def test_unpaired_difference_values():
    """Two published runs: D 4/1200, the normal interval, and Cochran-Mantel-Haenszel's p."""
    other = [34, 41, 25, 19, 18, 30, 23, 24, 39, 33, 25, 22, 36, 32, 20, 27, 26, 35, 36, 30, 29, 33, 25, 14]
    found = mean_difference(other, [50] * 24, RUN, [50] * 24)
    assert found.value == pytest.approx(4 / 1200, abs=1e-12)
    assert (found.se, found.low, found.high) == near(0.019620, -0.035121, 0.041788)
    p = cochran_mantel_haenszel(other, [50] * 24, RUN, [50] * 24)
    assert p == pytest.approx(0.866351, abs=1e-6) and norm.isf(p / 2) ** 2 == pytest.approx(0.028323, abs=1e-6)


def test_cochran_mantel_haenszel_by_hand():
    """Two tasks of 50, A (30, 10), B (25, 5): chi2 2.64 exactly, uncorrected; tasks that cannot tell do not matter."""
    p = cochran_mantel_haenszel([30, 10], [50, 50], [25, 5], [50, 50])
    assert norm.isf(p / 2) ** 2 == pytest.approx(2.64, abs=1e-9) and p == pytest.approx(0.104204, abs=1e-6)
    assert cochran_mantel_haenszel([30, 10, 9], [50, 50, 9], [25, 5, 9], [50, 50, 9]) == pytest.approx(p)
    assert cochran_mantel_haenszel([5, 0], [5, 5], [5, 0], [5, 5]) == 1.0
    assert cochran_mantel_haenszel([0], [1], [1], [1]) == pytest.approx(2 * norm.sf(1))  # chi2 = 0.5^2 / 0.25


def test_consistent_with_a_published_average():
    """3412 of 6000 published: a new run of 1200 is consistent with 646 to 719 successes, not beyond."""
    for successes, inside in ((645, False), (646, True), (719, True), (720, False)):
        assert (cochran_mantel_haenszel([3412], [6000], [successes], [1200]) >= 0.05) is inside


def test_unpaired_difference_does_not_collapse():
    """Few episodes or all at one end: Newcombe's interval with the arms' effective sizes."""
    found = mean_difference([50] * 10, [50] * 10, [50] * 10, [50] * 10)
    assert (found.value, found.se) == (0.0, 0.0)
    assert (found.low, found.high) == pytest.approx((-0.007624, 0.007624), abs=1e-6)
    few = mean_difference([5, 3, 0], [5] * 3, [5, 5, 0], [5] * 3)
    assert few.value == pytest.approx(2 / 15) and (few.low, few.high) == pytest.approx(newcombe(8, 15, 10, 15))
    one = mean_difference([0], [1], [1], [1])
    assert one.value == 1.0 and -1 <= one.low < 0 < one.high <= 1


@pytest.mark.parametrize("rate_a, rate_b, tasks, n", [(0.57, 0.57, 24, 5), (0.986, 0.966, 10, 10), (0.5, 0.7, 1, 20),
                                                      (0.986, 0.9, 10, 20), (0.57, 0.62, 24, 50)])
def test_coverage_of_differences(rate_a, rate_b, tasks, n):
    """Nominal 95 %: both intervals hold the true difference in at least 94 %, less three simulation errors."""
    generator, repetitions, held = np.random.default_rng(0), 1500, np.zeros(2)
    for _ in range(repetitions):
        luck, other = generator.random((2, tasks, n))
        shared = np.where(generator.random((tasks, n)) < 0.5, luck, other)
        a, b, c = luck < rate_a, shared < rate_b, other < rate_b
        paired = paired_mean_difference((a & ~b).sum(1), (b & ~a).sum(1), [n] * tasks)
        unpaired = mean_difference(a.sum(1), [n] * tasks, c.sum(1), [n] * tasks)
        held += [found.low <= rate_b - rate_a <= found.high for found in (paired, unpaired)]
    assert (held / repetitions >= 0.94 - 3 * math.sqrt(0.06 * 0.94 / repetitions)).all()


def test_differences_over_fewer_tasks_are_refused():
    """A task without episodes, or no task at all, leaves no difference and no p."""
    for found in (mean_difference([1, 0], [2, 0], [1, 1], [2, 2]), paired_mean_difference([0, 0], [1, 0], [2, 0]),
                  mean_difference([], [], [], []), paired_mean_difference([], [], [])):
        assert all(math.isnan(number) for number in (found.value, found.low, found.high, found.se))
    assert math.isnan(cochran_mantel_haenszel([1, 0], [2, 0], [1, 1], [2, 2]))
    assert math.isnan(cochran_mantel_haenszel([], [], [], []))
    assert all(math.isnan(limit) for limit in newcombe(0, 0, 1, 2))
    assert math.isnan(probability_better([1, 0], [2, 0], [1, 1], [2, 2], seed=0))
    assert math.isnan(probability_better([], [], [], [], seed=0))


def test_probability_better_by_hand():
    """Beta(1, 2) against Beta(2, 1), 0/1 against 1/1: the chance is 5/6; by symmetry 1/2 for equal counts."""
    assert probability_better([0], [1], [1], [1], seed=1) == pytest.approx(5 / 6, abs=0.005)
    assert probability_better([7, 1], [9, 9], [7, 1], [9, 9], seed=1) == pytest.approx(0.5, abs=0.006)
    assert probability_better([10] * 4, [50] * 4, [40] * 4, [50] * 4, seed=1, draws=1000) == 1.0


def test_probability_better_is_seeded():
    """One seed gives one number; another gives another."""
    first, again, other = (probability_better([20], [50], [25], [50], seed, draws=1000) for seed in (3, 3, 4))
    assert first == again != other


#: Mean p (1 - p) of the pooled runs above.
VARIANCE = float(np.mean(POOLED * (1 - POOLED)))


@pytest.mark.parametrize("difference, unpaired, rho3, rho5, rho7", [
    (0.01, 36838, 25787, 18419, 11052), (0.02, 9210, 6447, 4605, 2763), (0.03, 4094, 2866, 2047, 1228),
    (0.05, 1474, 1032, 737, 443), (0.10, 369, 258, 185, 111),
])
def test_episodes_needed_for_a_suite(difference, unpaired, rho3, rho5, rho7):
    """Episodes per arm at 80 % power; the published formula's numbers, better or worse."""
    for correlation, needed in ((0.0, unpaired), (0.3, rho3), (0.5, rho5), (0.7, rho7)):
        assert episodes_needed(0.5, difference, 0.8, correlation, VARIANCE) == needed
        assert episodes_needed(0.5, -difference, 0.8, correlation, VARIANCE) == needed


@pytest.mark.parametrize("a, b, at80, at90", [
    (0.50, 0.53, 4353, 5827), (0.57, 0.60, 4231, 5664), (0.50, 0.60, 385, 515), (0.57, 0.67, 366, 490),
    (0.80, 0.90, 197, 263), (0.90, 0.93, 1353, 1811), (0.95, 0.98, 586, 784), (0.966, 0.986, 916, 1226),
    (0.97, 0.98, 3823, 5118),
])
def test_episodes_needed_for_one_pair(a, b, at80, at90):
    """Published numbers per arm, at 80 and 90 % power; with them the power is just reached."""
    assert (episodes_needed(a, b - a), episodes_needed(a, b - a, power=0.9)) == (at80, at90)
    assert power_of(a, b, at80 - 1) < 0.8 <= power_of(a, b, at80)


@pytest.mark.parametrize("points, correlation, percent", [
    (2, 0, 17), (3, 0, 33), (4, 0, 53), (5, 0, 72), (6, 0, 86), (8, 0, 98), (3, 0.3, 44), (3, 0.5, 57), (3, 0.7, 79),
])
def test_power_of_a_suite(points, correlation, percent):
    """24 x 50 against 24 x 50 near 57 %."""
    found = power_of(0.57, 0.57 + points / 100, 1200, correlation, VARIANCE)
    assert 100 * found == pytest.approx(percent, abs=0.7)


@pytest.mark.parametrize("a, b, n, percent", [(0.966, 0.986, 500, 54), (0.966, 0.976, 500, 15),
                                              (0.976, 0.986, 2000, 64), (0.5, 0.7, 50, 55)])
def test_power_of_one_pair(a, b, n, percent):
    """LIBERO's suites, and one task of 50; a power is never below the error of a test of nothing."""
    assert 100 * power_of(a, b, n) == pytest.approx(percent, abs=0.7)
    assert power_of(a, a, n) == pytest.approx(0.05)


def test_power_of_boschloo():
    """One task, 50 episodes: 50 against 60, 70, 80 % and 90 against 98 %, exactly, by the test's rejection region."""
    region, above = np.zeros((51, 51), bool), 1
    for k in range(51):
        while above <= 50 and boschloo(k, 50, above, 50) >= 0.05:
            above += 1
        region[k, above:] = True
    region |= region.T
    chances = {rate: binom.pmf(np.arange(51), 50, rate) for rate in (0.5, 0.6, 0.7, 0.8, 0.9, 0.98)}
    for a, b, percent in ((0.5, 0.6, 16), (0.5, 0.7, 53), (0.5, 0.8, 89), (0.9, 0.98, 30)):
        assert 100 * chances[a] @ region @ chances[b] == pytest.approx(percent, abs=0.5)


@pytest.mark.parametrize("correlation, points", [(0, 5.5), (0.3, 4.6), (0.5, 3.9), (0.7, 3.0)])
def test_detectable_difference_of_a_suite(correlation, points):
    """24 x 50 near 57 % with 80 % power."""
    found = detectable_difference(0.57, 1200, correlation=correlation, variance=VARIANCE)
    assert 100 * found == pytest.approx(points, abs=0.05)


def test_detectable_difference_inverts_power():
    """Towards 50 % from either side the power is 80 % at the difference; so few episodes show no difference at all."""
    for rate, other in ((0.9, -1), (0.1, 1), (1.0, -1), (0.0, 1)):
        gap = detectable_difference(rate, 50)
        assert gap > 0 and power_of(rate, rate + other * gap, 50) == pytest.approx(0.8)
    assert detectable_difference(0.1, 50) == pytest.approx(detectable_difference(0.9, 50))
    assert math.isnan(detectable_difference(0.5, 5))


def test_correlation_has_its_limit():
    """A gap of 10 points needs 10 % discordant episodes however alike the runs: variance at least 0.1 - 0.01."""
    assert episodes_needed(0.5, 0.1, correlation=1.0) == math.ceil(7.848879734 * 0.09 / 0.01)
    assert episodes_needed(0.5, 0.1, correlation=0.5) > episodes_needed(0.5, 0.1, correlation=0.9)


@pytest.mark.parametrize("arguments", [(0.5, 0.0), (0.9, 0.2), (0.1, -0.2), (1.2, -0.3), (0.5, 0.1, 0.8, 1.5)])
def test_impossible_power_questions(arguments):
    """No difference, rates outside [0, 1] and correlations outside it are refused."""
    with pytest.raises(ValueError):
        episodes_needed(*arguments)
