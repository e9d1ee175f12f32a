"""What `evalkit doctor` checks of RoboCasa-GR1."""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.assets import Assets
from evalkit.doctor.findings import Finding
from evalkit.doctor.preflight import first_scene, judge_scene, read_golden
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions


def check(assets: Assets, options: EnvOptions, renderer: str) -> Iterator[Finding]:
    """See `evalkit.doctor.preflight`."""
    suite = load_suite("robocasa_gr1")
    scene = first_scene(suite, 0, options)
    yield judge_scene(scene, read_golden(suite), assets, renderer)
    scene.env.close()
