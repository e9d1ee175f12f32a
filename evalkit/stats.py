"""Statistics of success rates: small pure functions on numbers and arrays. Rates and limits are fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats
from statsmodels.stats.contingency_tables import StratifiedTable

CONFIDENCE = 0.95

#: Fewest episodes a task, and fewest successes, failures or discordant episodes in all, for a normal interval.
ENOUGH = 20


@dataclass(frozen=True)
class Difference:
    """A difference B - A of mean rates (or one mean rate), as fractions: value, 95 % limits and standard error."""

    value: float
    low: float
    high: float
    se: float


UNDEFINED = Difference(math.nan, math.nan, math.nan, math.nan)


def two_sided_z(confidence: float = CONFIDENCE) -> float:
    """Standard normal quantile that leaves (1 - confidence) / 2 above it; 1.96 for 95 %."""
    return float(special.ndtri(0.5 + confidence / 2))


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of `successes` of `n`; both may be fractional (effective sizes). NaN for n = 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not possible")
    if n == 0:
        return math.nan, math.nan
    z = two_sided_z(confidence)
    rate, shrink = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (conservative) interval of `successes` of `n`. NaN for n = 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not possible")
    if n == 0:
        return math.nan, math.nan
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def jeffreys(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Quantiles of the posterior Beta(k + 1/2, n - k + 1/2); excludes 0 and 1 even at the ends. NaN for n = 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not possible")
    if n == 0:
        return math.nan, math.nan
    low, high = stats.beta.ppf([0.5 - confidence / 2, 0.5 + confidence / 2], successes + 0.5, n - successes + 0.5)
    return float(low), float(high)


def mean_rate(successes: Sequence[int], n: Sequence[int]) -> float:
    """Plain mean of task rates: each task counts once. NaN if any task has no episode."""
    k, n = np.asarray(successes, float), np.asarray(n, float)
    return float(np.mean(k / n)) if n.size and (n > 0).all() else math.nan


def mean_rate_interval(successes: Sequence[int], n: Sequence[int],
                       confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of `mean_rate` over a fixed list of tasks: Wilson with n_eff = T^2 / sum(1 / n_i).

    Works at 0 % and 100 %, where a normal interval collapses; slightly conservative. NaN if any task has no episode.
    """
    mean = mean_rate(successes, n)
    if math.isnan(mean):
        return math.nan, math.nan
    size = effective_size(n)
    return wilson(min(mean * size, size), size, confidence)


def delta_interval(successes: Sequence[int], n: Sequence[int]) -> Difference:
    """`mean_rate`, its normal 95 % interval and SE = sqrt(sum(p_i q_i / n_i)) / T. All NaN if any task has no episode.

    Narrower than `mean_rate_interval`, but only right where every n_i >= 20 and rates are away from 0 and 1: tasks at
    0 % or 100 % add no variance, so it collapses on easy suites.
    """
    k, n = np.asarray(successes, float), np.asarray(n, float)
    if math.isnan(mean_rate(k, n)):
        return UNDEFINED
    rates = k / n
    interval = _normal(float(rates.mean()), math.sqrt(np.sum(rates * (1 - rates) / n)) / len(n))
    return replace(interval, low=max(0.0, interval.low))


def effective_size(n: Sequence[float]) -> float:
    """Episodes that would give a mean over tasks its precision if they were one task: T^2 / sum(1 / n_i)."""
    return len(n) ** 2 / float(np.sum(1 / np.asarray(n, float)))


def newcombe(k_a: float, n_a: float, k_b: float, n_b: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval of the difference B - A of two independent rates, from their Wilson limits. NaN if an n is 0."""
    if n_a == 0 or n_b == 0:
        return math.nan, math.nan
    a, b = k_a / n_a, k_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson(k_a, n_a, confidence), wilson(k_b, n_b, confidence)
    return float(b - a - math.hypot(b - low_b, high_a - a)), float(b - a + math.hypot(high_b - b, a - low_a))


@lru_cache(maxsize=4096)  # 500 episodes an arm take seconds
def boschloo(k_a: int, n_a: int, k_b: int, n_b: int) -> float:
    """Two-sided p of Boschloo's exact test of two independent rates being equal. NaN if an n is 0.

    scipy conditions on the column sums, so the arms must be the columns.
    """
    if not (0 <= k_a <= n_a and 0 <= k_b <= n_b):
        raise ValueError(f"{k_a} of {n_a} against {k_b} of {n_b} is not possible")
    if n_a == 0 or n_b == 0:
        return math.nan
    if k_a + k_b in (0, n_a + n_b):
        return 1.0
    return float(stats.boschloo_exact([[k_a, k_b], [n_a - k_a, n_b - k_b]]).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted by Holm for the number of tests made, in the order given. NaN (no test) stays NaN."""
    p = np.asarray(p, float)
    order = np.argsort(p)[:np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full(p.shape, math.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(order), 0, -1) * p[order]))
    return adjusted.tolist()


def mcnemar(only_a: int, only_b: int, mid: bool = True) -> float:
    """Two-sided p that discordant pairs fall either way with equal chance: mid-p, or exact (conservative)."""
    n, smaller = only_a + only_b, min(only_a, only_b)
    coin = stats.binom(n, 0.5)
    p = 2 * coin.cdf(smaller) - (coin.pmf(smaller) if mid else 0.0)
    return min(1.0, float(p))


def mean_difference(k_a: Sequence[int], n_a: Sequence[int], k_b: Sequence[int], n_b: Sequence[int]) -> Difference:
    """Mean over tasks of rate B - rate A, arms independent. All NaN if there is no task or an n is 0.

    The interval is normal, SE = sqrt(sum(pA qA / nA + pB qB / nB)) / T, where there are `ENOUGH` episodes in each task
    and successes and failures in each arm; otherwise Newcombe's with the arms' effective sizes, which keeps its
    coverage at few episodes and near 0 % and 100 %, where the normal one collapses.
    """
    k_a, n_a, k_b, n_b = (np.asarray(counts, float) for counts in (k_a, n_a, k_b, n_b))
    if not n_a.size or not (n_a > 0).all() or not (n_b > 0).all():
        return UNDEFINED
    a, b = k_a / n_a, k_b / n_b
    value, se = float(np.mean(b - a)), math.sqrt(np.sum(a * (1 - a) / n_a + b * (1 - b) / n_b)) / len(a)
    fewest = min(n_a.min(), n_b.min(), k_a.sum(), (n_a - k_a).sum(), k_b.sum(), (n_b - k_b).sum())
    if fewest >= ENOUGH:
        return _normal(value, se)
    size_a, size_b = effective_size(n_a), effective_size(n_b)
    low, high = newcombe(min(a.mean() * size_a, size_a), size_a, min(b.mean() * size_b, size_b), size_b)
    return Difference(value, low, high, se)


def paired_mean_difference(only_a: Sequence[int], only_b: Sequence[int], n: Sequence[int]) -> Difference:
    """Mean over tasks of (only_b - only_a) / n, episodes paired. All NaN if there is no task or an n is 0.

    The interval is normal, SE = sqrt(sum(((b + c) / n - d^2) / n)) / T, where there are `ENOUGH` episodes in each task
    and discordant ones in all; otherwise Bonett and Price's (2012; one more discordant pair each way) with the
    effective size, which does not collapse where few or no episodes are discordant.
    """
    only_a, only_b, n = (np.asarray(counts, float) for counts in (only_a, only_b, n))
    if not n.size or not (n > 0).all():
        return UNDEFINED
    a, b = only_a / n, only_b / n
    value, se = float(np.mean(b - a)), math.sqrt(np.sum((a + b - (b - a) ** 2) / n)) / len(n)
    if n.min() >= ENOUGH and (only_a + only_b).sum() >= ENOUGH:
        return _normal(value, se)
    size = effective_size(n)
    a, b = (a.mean() * size + 1) / (size + 2), (b.mean() * size + 1) / (size + 2)
    moved = _normal(float(b - a), math.sqrt((a + b - (b - a) ** 2) / (size + 2)))
    return Difference(value, moved.low, moved.high, se)


def _normal(value: float, se: float) -> Difference:
    half = two_sided_z() * se
    return Difference(value, max(-1.0, value - half), min(1.0, value + half), se)


def cochran_mantel_haenszel(k_a: Sequence[int], n_a: Sequence[int], k_b: Sequence[int], n_b: Sequence[int]) -> float:
    """p of "no difference in any task", arms independent, tasks as strata, without continuity correction.

    1 where no task can tell (all succeed or all fail in both arms); NaN if there is no task or an n is 0.
    """
    k_a, n_a, k_b, n_b = (np.asarray(counts, float) for counts in (k_a, n_a, k_b, n_b))
    if not n_a.size or not (n_a > 0).all() or not (n_b > 0).all():
        return math.nan
    telling = (k_a + k_b > 0) & (k_a + k_b < n_a + n_b)
    if not telling.any():
        return 1.0
    tables = np.array([[k_a, n_a - k_a], [k_b, n_b - k_b]])[:, :, telling]
    return float(StratifiedTable(tables).test_null_odds(correction=False).pvalue)


def probability_better(k_a: Sequence[int], n_a: Sequence[int], k_b: Sequence[int], n_b: Sequence[int], seed: int,
                       draws: int = 100_000) -> float:
    """Probability that B's mean rate over the tasks is above A's, by `draws` from independent Beta(1 + k, 1 + n - k).

    Pairing is not used, so for paired runs it is nearer to 1/2 than need be. NaN if there is no task or an n is 0.
    """
    if not len(n_a) or min(*n_a, *n_b) == 0:
        return math.nan
    generator = np.random.default_rng(seed)
    gap = np.zeros(draws)
    for successes_a, size_a, successes_b, size_b in zip(k_a, n_a, k_b, n_b):
        gap += generator.beta(1 + successes_b, 1 + size_b - successes_b, draws)
        gap -= generator.beta(1 + successes_a, 1 + size_a - successes_a, draws)
    return float(np.mean(gap > 0))


def episodes_needed(rate: float, difference: float, power: float = 0.8, correlation: float = 0.0,
                    variance: float | None = None) -> int:
    """Episodes per arm to tell `rate` from `rate` + `difference` (signed) at two-sided 5 %, normal approximation.

    correlation: of the two outcomes of one episode, 0 for unpaired runs. variance: mean p (1 - p) over a suite's tasks,
    taken for both arms instead of the rate's own. Raises ValueError for a difference of 0 or a rate outside [0, 1].
    """
    if difference == 0:
        raise ValueError("no number of episodes shows a difference of 0")
    z = two_sided_z() + float(special.ndtri(power))
    spread = _variance_of_difference(rate, rate + difference, correlation, variance)
    return math.ceil(z * z * spread / difference**2 - 1e-9)


def power_of(rate_a: float, rate_b: float, n: float, correlation: float = 0.0, variance: float | None = None) -> float:
    """Chance that `n` episodes per arm show the difference at two-sided 5 %; arguments as in `episodes_needed`."""
    spread = _variance_of_difference(rate_a, rate_b, correlation, variance)
    if spread == 0:
        return float(rate_a != rate_b)
    z, gap = two_sided_z(), abs(rate_b - rate_a) / math.sqrt(spread / n)
    return float(special.ndtr(gap - z) + special.ndtr(-gap - z))


def detectable_difference(rate: float, n: float, power: float = 0.8, correlation: float = 0.0,
                          variance: float | None = None) -> float:
    """Smallest difference from `rate`, towards 50 % and beyond, that `n` episodes per arm show with `power`.

    Positive, a fraction; NaN where even 0 % against `rate` (or 100 %) is not shown. Other arguments as in
    `episodes_needed`.
    """
    largest, sign = max(rate, 1 - rate), (1 if rate < 0.5 else -1)

    def lacking(gap: float) -> float:
        return power_of(rate, rate + sign * gap, n, correlation, variance) - power

    if lacking(largest) < 0:
        return math.nan
    return float(optimize.brentq(lacking, 1e-9, largest))


def _variance_of_difference(rate_a: float, rate_b: float, correlation: float, variance: float | None) -> float:
    """Of one episode's outcome B - A; never below that of the fewest discordant episodes that make the difference."""
    if not (0 <= rate_a <= 1 and 0 <= round(rate_b, 12) <= 1 and 0 <= correlation <= 1):
        raise ValueError(f"rates {rate_a} and {rate_b} and correlation {correlation} must be in [0, 1]")
    of_a, of_b = (variance, variance) if variance is not None else (rate_a * (1 - rate_a), rate_b * (1 - rate_b))
    gap = abs(rate_b - rate_a)
    return max(of_a + of_b - 2 * correlation * math.sqrt(of_a * of_b), gap * (1 - gap) if correlation else 0.0)
