"""Statistics: hand-worked and published values, properties at the ends, agreement with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from evalkit.stats import clopper_pearson, mean_rate, mean_rate_interval, wilson

Z2 = 1.959963984540054**2

#: successes, n, Wilson low and high, Clopper-Pearson low and high; 95 %.
INTERVALS = [
    (0, 1, 0.000000, 0.793451, 0.000000, 0.975000),
    (1, 1, 0.206549, 1.000000, 0.025000, 1.000000),
    (0, 5, 0.000000, 0.434482, 0.000000, 0.521824),
    (3, 5, 0.230724, 0.882379, 0.146633, 0.947255),
    (5, 5, 0.565518, 1.000000, 0.478176, 1.000000),
    (0, 50, 0.000000, 0.071348, 0.000000, 0.071122),
    (1, 50, 0.003539, 0.104954, 0.000506, 0.106470),
    (25, 50, 0.366445, 0.633555, 0.355273, 0.644727),
    (27, 50, 0.403989, 0.670303, 0.393242, 0.681851),
    (28, 50, 0.423060, 0.688378, 0.412544, 0.700093),
    (40, 50, 0.669629, 0.887562, 0.662817, 0.899698),
    (49, 50, 0.895046, 0.996461, 0.893530, 0.999494),
    (50, 50, 0.928652, 1.000000, 0.928878, 1.000000),
    (0, 500, 0.000000, 0.007624, 0.000000, 0.007351),
    (483, 500, 0.946229, 0.978665, 0.946120, 0.980071),
    (493, 500, 0.971387, 0.993202, 0.971368, 0.994353),
    (500, 500, 0.992376, 1.000000, 0.992649, 1.000000),
    (680, 1200, 0.538461, 0.594447, 0.538078, 0.594928),
    (681, 1200, 0.539298, 0.595271, 0.538916, 0.595753),
    (1972, 2000, 0.979840, 0.990296, 0.979829, 0.990677),
]

#: Successes of 50 on 24 tasks, a published run; their sum is 680.
RUN = [25, 40, 25, 29, 20, 30, 27, 25, 40, 26, 22, 29, 32, 33, 22, 32, 25, 29, 31, 26, 32, 34, 25, 21]

EVERY = [(k, n) for n in (1, 2, 3, 7, 10, 50) for k in range(n + 1)]


def near(*values: float):
    return pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("k, n, low, high, exact_low, exact_high", INTERVALS)
def test_interval_values(k, n, low, high, exact_low, exact_high):
    """Both intervals of one rate, to six digits."""
    assert wilson(k, n) == near(low, high)
    assert clopper_pearson(k, n) == near(exact_low, exact_high)


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


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
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


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_nothing_measured_is_no_interval(interval):
    """n = 0 gives NaN, never 0 %."""
    assert all(math.isnan(limit) for limit in interval(0, 0))


@pytest.mark.parametrize("k, n", [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts(k, n):
    """Counts that cannot be are refused."""
    with pytest.raises(ValueError):
        wilson(k, n)


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
