"""The doctor's checks of RoboCasa-GR1, on the scenes that every machine has."""

from __future__ import annotations

import pytest

from evalkit.doctor.findings import OK
from evalkit.doctor.preflight import check_suite
from evalkit.registry import load_suite
from suites.robocasa_gr1.assets import built_in

pytestmark = pytest.mark.simulator


def test_first_scene_is_the_known_one():
    """Pinned versions, physics of the first scene, and its frame where it is known for what draws here."""
    found = list(check_suite(load_suite("robocasa_gr1"), built_in()))
    assert [(finding.name, finding.level) for finding in found] == [("versions", OK), ("scene", OK)], found
