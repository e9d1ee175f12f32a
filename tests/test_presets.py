"""Presets: a paper's protocol as a config, departures named, the published row beside the result."""

from __future__ import annotations

import pytest

from evalkit import paper
from evalkit.config import make_config
from evalkit.entries import AVERAGE, gr1_layout, libero_layout, published_entry
from evalkit.errors import InputError
from evalkit.plan import make_plan
from evalkit.presets import PRESETS, find_preset, with_preset
from evalkit.registry import load_suite


@pytest.mark.parametrize("name, episodes, steps, policy_options", [
    ("dit4dit-paper/libero", 2000, (220 + 280 + 300 + 520) * 500, {"executed_steps": 8, "dtype": "bf16"}),
    ("dit4dit-paper/robocasa-gr1", 1200, 720 * 1200, {"executed_steps": 12, "dtype": "bf16_all"}),
])
def test_a_preset_is_the_protocol_of_the_release(name, episodes, steps, policy_options):
    """Episodes, horizons and executed steps of the release's scripts; real assets, upstream's scenes, seed 7."""
    config = make_config(with_preset(name, {"policy_options": {"checkpoint": "x"}}))
    planned = make_plan(config)
    assert len(planned) == episodes and sum(episode.max_steps for episode in planned) == steps
    assert config.policy == "dit4dit" and config.policy_options == {**policy_options, "checkpoint": "x"}
    assert (config.assets, config.scenes, config.seed, config.seed_policy) == ("real", "upstream", 7, "reference")
    assert all(config.policy_options["executed_steps"] and load_suite(suite).max_steps for suite in config.suites)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_published_row(name):
    """The reference that a result is held against is one published row of the preset's benchmark, with n."""
    preset = find_preset(name)
    parts = paper.find_references([preset.reference])[preset.benchmark]
    layout = {"libero": libero_layout, "robocasa_gr1": gr1_layout}[preset.benchmark]()
    entry = published_entry(layout, *parts)
    assert entry.cells[AVERAGE].n


def test_departures_are_named(capsys):
    """Flags win over the preset, and a notice says that it is not that protocol any more."""
    values = with_preset("dit4dit-paper/libero", {"episodes": "5", "assets": "stand-in", "workers": 2,
                                                  "policy_options": {"executed_steps": 4, "checkpoint": "x"}})
    assert values["episodes"] == "5" and values["policy_options"]["executed_steps"] == 4
    notice = capsys.readouterr().err
    assert "not the protocol of dit4dit-paper/libero" in notice
    assert all(part in notice for part in ("episodes 5 (preset: 50)", "executed_steps 4 (preset: 8)",
                                           "assets stand-in (preset: real)")) and "workers" not in notice


def test_the_same_values_are_no_departure(capsys):
    """A flag that repeats the preset is silent."""
    with_preset("dit4dit-paper/libero", {"episodes": "50", "suites": "libero", "policy_options": {"checkpoint": "x"}})
    assert capsys.readouterr().err == ""


def test_unknown_preset():
    """The nearest name is suggested."""
    with pytest.raises(InputError, match="Did you mean 'dit4dit-paper/libero'"):
        with_preset("dit4dit-paper/liber", {})


def test_suites_of_another_benchmark():
    """A preset's table has no place for them, so they are refused before the run."""
    with pytest.raises(InputError, match=r"is for libero_spatial.*got --suite toy"):
        with_preset("dit4dit-paper/libero", {"suites": "libero_goal,toy"})
