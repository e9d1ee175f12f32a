"""Statistics of success rates: small pure functions on numbers and arrays. Rates and limits are fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of `successes` of `n`; both may be fractional (effective sizes). NaN for n = 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not possible")
    if n == 0:
        return math.nan, math.nan
    z = stats.norm.ppf(0.5 + confidence / 2)
    rate, shrink = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (conservative) interval of `successes` of `n`. NaN for n = 0."""
    if n == 0:
        return math.nan, math.nan
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


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
    effective = len(n) ** 2 / float(np.sum(1 / np.asarray(n, float)))
    return wilson(min(mean * effective, effective), effective, confidence)
