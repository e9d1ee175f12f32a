"""Episode: its id, and randomness that follows from the episode alone."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from evalkit.episode import Episode, episode_id, parse_episode_id, stable_seed

EPISODE = Episode("libero_spatial", 3, 17, seed=7, max_steps=220)


def draws(episode: Episode, purpose: str = "test") -> list[int]:
    return episode.generator(purpose).integers(0, 2**31, 3).tolist()


def test_id_is_suite_task_index():
    """An id is suite/task/index with two and three digits."""
    assert EPISODE.id == "libero_spatial/03/017"


@pytest.mark.parametrize("parts", [("toy", 0, 0), ("libero_90", 89, 49), ("robocasa_gr1", 123, 4567)])
def test_id_round_trip(parts):
    """Parsing an id gives back what it was made of, also beyond two and three digits."""
    assert parse_episode_id(episode_id(*parts)) == parts


@pytest.mark.parametrize("text", ["", "toy", "toy/00", "toy/0/000", "toy/00/00", "toy/00/000/", "/00/000", "toy/-1/000",
                                  "Toy/00/000", "toy/00/000\n", "toy-00-000", "toy/aa/000", " toy/00/000"])
def test_malformed_id(text):
    """Anything but an id is a ValueError that quotes it and shows the form."""
    with pytest.raises(ValueError) as caught:
        parse_episode_id(text)
    assert repr(text) in str(caught.value) and "libero_spatial/03/017" in str(caught.value)


def test_episode_is_frozen():
    """Nobody can change an episode after the plan."""
    with pytest.raises(FrozenInstanceError):
        EPISODE.seed = 8


def test_stable_seed_never_changes():
    """The first eight bytes of sha256("7|libero_goal|3|17"), little-endian, halved: old runs stay reproducible."""
    assert stable_seed(7, "libero_goal", 3, 17) == 4148691226837409581
    assert all(0 <= stable_seed("x", number) < 2**63 for number in range(200))


def test_generator_never_changes():
    """The numbers an episode draws for a purpose are the same on every machine and in every version."""
    assert draws(EPISODE, "random policy, step 0") == [53867647, 511426651, 1955657142]


def test_generator_follows_from_id_seed_and_purpose():
    """Equal id, seed and purpose draw equal numbers; a change of any one of them draws others."""
    assert draws(EPISODE) == draws(replace(EPISODE))
    others = [replace(EPISODE, suite="libero_goal"), replace(EPISODE, task=4), replace(EPISODE, index=18),
              replace(EPISODE, seed=8)]
    assert len({tuple(draws(episode)) for episode in [EPISODE, *others]}) == 5
    assert draws(EPISODE, "noise") != draws(EPISODE, "latent")


def test_generator_ignores_the_horizon():
    """A longer horizon does not change what an episode draws."""
    assert draws(replace(EPISODE, max_steps=999)) == draws(EPISODE)


def test_each_generator_is_fresh():
    """Two generators of one episode do not share state: a retry draws what the first attempt drew."""
    first = EPISODE.generator("test")
    first.integers(0, 2**31, 100)
    assert EPISODE.generator("test").integers(0, 2**31, 3).tolist() == draws(EPISODE)
