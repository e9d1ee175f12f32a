"""Policy `lerobot` against the lerobot package's own way of running a checkpoint, bit by bit."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor.env_processor import LiberoProcessorStep
from safetensors.torch import load_file, save_file

from baselines.lerobot import LeRobot
from baselines.lerobot.runtime import import_torchvision
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.registry import load_suite
from evalkit.testing import check_policy, fake_observation

SUITE = load_suite("libero_goal")


def episode(index=0):
    return Episode(SUITE.name, index, index, seed=7 + index, max_steps=SUITE.max_steps)


def loaded(folder, **options):
    policy = LeRobot(SUITE, str(folder), **options)
    policy.load()
    return policy


def from_camera(observation):
    """What lerobot's LIBERO environment gives for this observation: pictures as the renderer makes them (turned by 180
    degrees against our views), orientation as a quaternion (x, y, z, w)."""
    turn = observation.state["eef_axis_angle"]
    angle = np.linalg.norm(turn)
    quaternion = np.append(np.sin(angle / 2) * turn / angle, np.cos(angle / 2))
    return {
        "pixels": {"image": observation.views["agentview"][::-1, ::-1].copy(),
                   "image2": observation.views["wrist"][::-1, ::-1].copy()},
        "robot_state": {"eef": {"pos": observation.state["eef_pos"][None], "quat": quaternion[None]},
                        "gripper": {"qpos": observation.state["gripper_qpos"][None]}},
    }


def lerobot_batch(observation):
    """The batch that lerobot-eval hands to a policy's preprocessor. Its state went through a float32 quaternion; ours
    is put in its place, so that what follows can be compared bit by bit."""
    batch = LiberoProcessorStep().observation(preprocess_observation(from_camera(observation)))
    ours = np.concatenate([observation.state[name] for name in ("eef_pos", "eef_axis_angle", "gripper_qpos")])
    torch.testing.assert_close(batch["observation.state"][0], torch.from_numpy(ours).float(), atol=2e-6, rtol=2e-6)
    batch["observation.state"] = torch.from_numpy(ours)[None].float()
    return {**batch, "task": [observation.instruction]}


def lerobot_actions(folder, observations, **overrides):
    """One action for each observation of an episode, as lerobot-eval gets them; torch is seeded as the policy here
    seeds it, which lerobot leaves to the caller."""
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--{k}={v}" for k, v in overrides.items()])
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, str(folder))
    policy.reset()
    actions = []
    for observation in observations:
        torch.manual_seed(int(observation.generator("lerobot").integers(2**63)))
        with torch.inference_mode():
            actions.append(after(policy.select_action(before(lerobot_batch(observation)))))
    return torch.cat(actions).numpy()


@pytest.mark.parametrize("kind", ["act", "diffusion", "vqbet", "smolvla"])
def test_keeps_the_contract(saved, kind):
    check_policy(LeRobot(SUITE, str(saved(kind))), SUITE)


@pytest.mark.parametrize(("kind", "changes"), [
    ("act", {}), ("smolvla", {}), ("smolvla", {"load_vlm_weights": True}),
    ("diffusion", {"n_obs_steps": 1}), ("diffusion", {"n_obs_steps": 1, "use_separate_rgb_encoder_per_camera": True}),
])
def test_a_chunk_is_what_lerobot_would_execute(saved, kind, changes):
    folder = saved(kind, **changes)
    policy = loaded(folder)
    steps = policy.spec.executed_steps
    assert steps == json.loads((folder / "config.json").read_text())["n_action_steps"] > 1
    assert not policy.spec.stateful
    for number in range(2):
        observation = fake_observation(SUITE, episode(number), step=number * steps)
        chunk = policy.act([observation])[0]
        assert chunk.shape == (steps, 7) and chunk.dtype == np.float32
        assert np.array_equal(chunk, lerobot_actions(folder, [observation] * steps))


@pytest.mark.parametrize(("kind", "changes"), [
    ("diffusion", {}), ("vqbet", {}), ("act", {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}),
])
def test_a_policy_with_a_memory_sees_every_step_of_its_own_episode(saved, kind, changes):
    """Two episodes in turns, 7 steps each: each gets what lerobot gives to it alone."""
    folder = saved(kind, **changes)
    policy = loaded(folder)
    assert policy.spec.stateful and policy.spec.executed_steps == policy.spec.chunk_length == 1
    seen = [[fake_observation(SUITE, episode(number), step) for step in range(7)] for number in range(2)]
    for number in range(2):
        policy.reset(episode(number))
    got = [policy.act(list(together)) for together in zip(*seen)]
    for number in range(2):
        expected = lerobot_actions(folder, seen[number])
        assert np.array_equal(np.concatenate([chunks[number] for chunks in got]), expected)


def test_a_step_left_out_is_refused_and_an_episode_can_begin_again(saved):
    policy = loaded(saved("diffusion"))
    first = [fake_observation(SUITE, episode(), step) for step in range(3)]
    before = [policy.act([observation])[0] for observation in first]
    with pytest.raises(RuntimeError, match="has seen 3 steps, and now comes step 4"):
        policy.act([fake_observation(SUITE, episode(), 4)])
    with pytest.raises(RuntimeError, match="has seen nothing"):
        policy.act([fake_observation(SUITE, episode(), 3)])
    policy.reset(episode())
    again = [policy.act([observation])[0] for observation in first]
    assert all(np.array_equal(a, b) for a, b in zip(before, again))


def test_the_least_recent_memory_goes(saved, monkeypatch):
    monkeypatch.setattr("baselines.lerobot.EPISODES_KEPT", 2)
    policy = loaded(saved("diffusion"))
    for number in range(3):
        policy.act([fake_observation(SUITE, episode(number))])
    policy.act([fake_observation(SUITE, episode(2), 1)])
    with pytest.raises(RuntimeError, match="has seen nothing"):
        policy.act([fake_observation(SUITE, episode(0), 1)])


@pytest.mark.parametrize("kind", ["act", "smolvla"])
def test_batches_do_not_matter(saved, kind):
    policy = loaded(saved(kind))
    observations = [fake_observation(SUITE, episode(number)) for number in range(4)]
    together = policy.act(observations)
    for observation, expected in zip(reversed(observations), reversed(together)):
        assert np.array_equal(policy.act([observation])[0], expected)


def test_noise_follows_from_the_query_alone(saved):
    policy = loaded(saved("smolvla"))
    observation = fake_observation(SUITE, episode())
    state = torch.get_rng_state()
    first = policy.act([observation])[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert np.array_equal(policy.act([observation])[0], first)
    assert not np.array_equal(policy.act([replace(observation, seed=5)])[0], first)


def test_each_sample_has_its_own_instruction(saved):
    policy = loaded(saved("smolvla"))
    observation = fake_observation(SUITE, episode())
    other = replace(observation, instruction="close the drawer")
    first, second = policy.act([observation, other])
    assert not np.array_equal(first, second)
    assert np.array_equal(policy.act([other])[0], second)


def test_executed_steps_is_lerobots_n_action_steps(saved):
    observation = fake_observation(SUITE, episode())
    whole = loaded(saved("act"), executed_steps=8).act([observation])[0]
    assert len(whole) == 8
    assert np.array_equal(loaded(saved("act"), executed_steps=2).act([observation])[0], whole[:2])

    steps = [fake_observation(SUITE, episode(), step) for step in range(3)]
    policy = loaded(saved("diffusion"), executed_steps=1)
    assert np.array_equal(np.concatenate([policy.act([step])[0] for step in steps]),
                          lerobot_actions(saved("diffusion"), steps, n_action_steps=1))


def test_views_go_where_they_are_sent(saved):
    folder = saved("act")
    names = ("observation.images.image", "observation.images.image2")
    swapped = loaded(folder, views=dict(zip(names, ("wrist", "agentview"))))
    observation = fake_observation(SUITE, episode())
    mirrored = replace(observation, views={"agentview": observation.views["wrist"],
                                           "wrist": observation.views["agentview"]})
    assert np.array_equal(swapped.act([observation])[0], loaded(folder).act([mirrored])[0])


def test_smolvla_runs_without_a_camera(saved):
    policy = loaded(saved("smolvla"), views={"observation.images.image2": None})
    assert policy.spec.views == ("agentview",)
    observation = fake_observation(SUITE, episode())
    blind = replace(observation, views={"agentview": observation.views["agentview"]})
    assert np.array_equal(policy.act([observation])[0], policy.act([blind])[0])


@pytest.mark.parametrize("names", [("camera1", "camera2"), ("image2", "image")])
def test_features_are_fed_under_the_names_before_renaming(saved, tmp_path, names):
    """A checkpoint whose preprocessor renames (lerobot-train --rename_map) acts like one with the plain names."""
    shutil.copytree(saved("act"), tmp_path, dirs_exist_ok=True)
    renamed = dict(zip(("observation.images.image", "observation.images.image2"),
                       (f"observation.images.{name}" for name in names)))
    config = json.loads((tmp_path / "config.json").read_text())
    config["input_features"] = {renamed.get(name, name): entry for name, entry in config["input_features"].items()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    path = tmp_path / "policy_preprocessor.json"
    processor = json.loads(path.read_text())
    processor["steps"][0]["config"]["rename_map"] = renamed
    normalizer = next(step for step in processor["steps"] if step["registry_name"] == "normalizer_processor")
    features = normalizer["config"]["features"]
    normalizer["config"]["features"] = {renamed.get(name, name): entry for name, entry in features.items()}
    path.write_text(json.dumps(processor))
    stats = load_file(tmp_path / normalizer["state_file"])
    save_file({f"{renamed.get(name.rpartition('.')[0], name.rpartition('.')[0])}.{name.rpartition('.')[2]}": value
               for name, value in stats.items()}, tmp_path / normalizer["state_file"])
    observation = fake_observation(SUITE, episode())
    assert np.array_equal(loaded(tmp_path).act([observation])[0], loaded(saved("act")).act([observation])[0])


def test_describes_what_was_loaded(saved):
    described = loaded(saved("smolvla", load_vlm_weights=True)).describe()
    assert described["type"] == "smolvla" and described["device"] == "cpu"
    assert described["dtype"] == "bfloat16+float32"
    assert described["parameters"] > 10_000 and len(described["checkpoint"]["sha256"]) == 64
    json.dumps(described)


def test_nothing_is_fetched_and_the_device_of_training_does_not_matter(saved, tmp_path, monkeypatch):
    def fetch(*arguments, **options):
        raise AssertionError("weights of a backbone were fetched")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    shutil.copytree(saved("act"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(
        {**config, "pretrained_backbone_weights": "ResNet18_Weights.IMAGENET1K_V1", "device": "cuda"}))
    observation = fake_observation(SUITE, episode())
    chunk = loaded(tmp_path, device="cpu").act([observation])[0]
    assert np.array_equal(chunk, loaded(saved("act")).act([observation])[0])


def test_weights_that_do_not_fit_are_refused(saved, tmp_path):
    shutil.copytree(saved("act"), tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    dropped = tensors.pop("model.action_head.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.action_head\.bias"):
        loaded(tmp_path)
    save_file({**tensors, "model.action_head.bias": dropped[:3].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="size mismatch"):
        loaded(tmp_path)


def test_a_device_that_is_not_there_is_refused(saved):
    with pytest.raises(InputError, match="option device of policy 'lerobot' is 'cuda:99'"):
        loaded(saved("act"), device="cuda:99")


def test_torchvision_says_itself_that_its_operators_are_missing():
    import_torchvision()
    if torchvision.extension._has_ops():
        pytest.skip("this torch loads torchvision's operators")
    with pytest.raises(RuntimeError, match=r"Couldn't load custom C\+\+ ops"):
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
