"""Comparing computed quantities with recorded ones: one line each, its largest error beside its tolerance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


def as_array(value: Any) -> np.ndarray:
    """A numpy array from an array or a tensor of any dtype (bfloat16 becomes float32)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


@dataclass(frozen=True)
class Row:
    """One compared quantity. error: largest absolute difference, rms: root mean square; limits: None = not limited."""

    name: str
    error: float
    tolerance: float
    rms: float = 0.0
    rms_tolerance: float | None = None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Within both limits. NaN never is."""
        return not self.problem and self.error <= self.tolerance and (
            self.rms_tolerance is None or self.rms <= self.rms_tolerance)

    def __str__(self) -> str:
        if self.problem:
            return f"OVER  {self.name:<44} {self.problem}"
        rms = "" if self.rms_tolerance is None else f"   rms {self.rms:8.1e} of {self.rms_tolerance:.0e}"
        return f"{'ok' if self.passed else 'OVER':<5} {self.name:<44} {self.error:8.1e} of {self.tolerance:.0e}{rms}"


@dataclass
class Report:
    """Rows in the order of comparison."""

    rows: list[Row] = field(default_factory=list)

    def compare(self, name: str, got: Any, expected: Any, tolerance: float,
                rms_tolerance: float | None = None) -> None:
        """Add a Row. tolerance 0: equal. A shape that differs is over any tolerance."""
        got, expected = as_array(got), as_array(expected)
        if got.shape != expected.shape:
            problem = f"shape {got.shape}, expected {expected.shape}"
            self.rows.append(Row(name, np.inf, tolerance, problem=problem))
            return
        difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        error = float(difference.max()) if difference.size else 0.0
        rms = float(np.sqrt(np.mean(difference ** 2))) if difference.size else 0.0
        self.rows.append(Row(name, error, tolerance, rms, rms_tolerance))

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it is within its tolerance."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def finish(self) -> int:
        """Print every row and the verdict; the exit status: 0, or 1 when one is over its tolerance."""
        for row in self.rows:
            print(row)
        over = sum(not row.passed for row in self.rows)
        print(f"{len(self.rows)} quantities, {over} over tolerance (error: largest absolute difference)")
        return 0 if self.passed else 1
