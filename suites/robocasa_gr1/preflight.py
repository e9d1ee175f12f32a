"""What `evalkit doctor` checks of RoboCasa-GR1."""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.assets import Assets
from evalkit.findings import Finding
from evalkit.preflight import first_scene, judge_scene, read_golden
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions


def check(assets: Assets, options: EnvOptions, renderer: str) -> Iterator[Finding]:
    """See `evalkit.preflight`."""
    suite = load_suite("robocasa_gr1")
    scene = first_scene(suite, 0, options)
    yield judge_scene(scene, read_golden(suite), assets, renderer)
    scene.env.close()
