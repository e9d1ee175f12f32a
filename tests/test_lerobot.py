"""Policy `lerobot` in the driver, which has neither torch nor lerobot: what a checkpoint's JSON says, and every way in
which it does not fit LIBERO."""

import json

import pytest

from baselines.lerobot import LeRobot
from baselines.lerobot.checkpoint import LONGEST, REFUSED, read_dtypes
from evalkit.errors import InputError
from evalkit.registry import load_suite
from evalkit.specs import check_policy_fits

SUITE = load_suite("libero_goal")
IMAGE, IMAGE2, STATE, ACTION = "observation.images.image", "observation.images.image2", "observation.state", "action"


def config(kind="act", **changes):
    """config.json as lerobot writes it for a LIBERO policy, without what nobody here reads."""
    numbers = {"act": {"chunk_size": 100, "n_action_steps": 50, "temporal_ensemble_coeff": None},
               "smolvla": {"chunk_size": 50, "n_action_steps": 10, "resize_imgs_with_padding": [512, 512]},
               "diffusion": {"horizon": 16, "n_action_steps": 8, "resize_shape": None},
               "vqbet": {"action_chunk_size": 5}}
    return {
        "type": kind, "n_obs_steps": 2 if kind in ("diffusion", "vqbet") else 1, **numbers.get(kind, {}),
        "input_features": {IMAGE: {"type": "VISUAL", "shape": [3, 256, 256]},
                           IMAGE2: {"type": "VISUAL", "shape": [3, 256, 256]},
                           STATE: {"type": "STATE", "shape": [8]}},
        "output_features": {ACTION: {"type": "ACTION", "shape": [7]}},
        "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}, **changes,
    }


def save_tensors(path, names):
    """A safetensors file of one float32 for each name, by hand: length of the header, header, data."""
    header = json.dumps({"__metadata__": {"format": "pt"}, **{
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4 * len(names)))


def save(folder, settings=None, rename_map=None):
    """A checkpoint's folder; returns it."""
    settings = settings or config()
    features = {**settings["input_features"], **settings["output_features"]}
    (folder / "config.json").write_text(json.dumps(settings))
    save_tensors(folder / "model.safetensors", ["model.weight"])
    for name, step in (("preprocessor", "normalizer_processor"), ("postprocessor", "unnormalizer_processor")):
        steps = [{"registry_name": "rename_observations_processor", "config": {"rename_map": rename_map or {}}},
                 {"registry_name": step, "state_file": f"{name}.safetensors",
                  "config": {"norm_map": settings["normalization_mapping"]}}]
        (folder / f"policy_{name}.json").write_text(json.dumps({"name": name, "steps": steps}))
        save_tensors(folder / f"{name}.safetensors", [f"{feature}.mean" for feature in features])
    return str(folder)


def refusal(folder, **options):
    """The text of the InputError."""
    with pytest.raises(InputError) as caught:
        LeRobot(SUITE, str(folder), **options)
    return str(caught.value)


def test_a_chunk_policy(tmp_path):
    policy = LeRobot(SUITE, save(tmp_path))
    assert policy.spec.views == ("agentview", "wrist")
    assert policy.spec.state == ("eef_pos", "eef_axis_angle", "gripper_qpos")
    assert (policy.spec.chunk_length, policy.spec.executed_steps, policy.spec.stateful) == (50, 50, False)
    check_policy_fits(policy.spec, SUITE)
    assert LeRobot(SUITE, str(tmp_path), executed_steps=8).spec.executed_steps == 8


@pytest.mark.parametrize(("settings", "steps", "longest"), [
    (config("diffusion"), 8, 15), (config("vqbet"), 5, 5),
    (config(temporal_ensemble_coeff=0.01, n_action_steps=1), 1, 100),
])
def test_a_policy_that_must_see_every_step(tmp_path, settings, steps, longest):
    """Diffusion: of a horizon of 16 with 2 observations, 16 - 2 + 1 = 15 actions are from now on."""
    policy = LeRobot(SUITE, save(tmp_path, settings))
    assert (policy.spec.chunk_length, policy.spec.executed_steps, policy.spec.stateful) == (1, 1, True)
    assert (policy.checkpoint.steps, policy.checkpoint.longest) == (steps, longest)


@pytest.mark.parametrize(("settings", "asked", "allowed"), [
    (config(), 0, "1 to 100; its own is 50"), (config(), 101, "1 to 100; its own is 50"),
    (config(), True, "1 to 100; its own is 50"), (config(), "8", "1 to 100; its own is 50"),
    (config("diffusion"), 16, "1 to 15; its own is 8"), (config("vqbet"), 2, "5, which this policy fixes"),
    (config(temporal_ensemble_coeff=0.01, n_action_steps=1), 2, "1, which this policy fixes"),
])
def test_executed_steps_out_of_range(tmp_path, settings, asked, allowed):
    text = refusal(save(tmp_path, settings), executed_steps=asked)
    assert f"is {asked!r}; allowed: {allowed}" in text


def test_a_renamed_camera_is_known_by_its_old_name(tmp_path):
    settings = config()
    images = settings["input_features"]
    camera1, camera2 = "observation.images.camera1", "observation.images.camera2"
    settings["input_features"] = {camera1: images[IMAGE2], camera2: images[IMAGE], STATE: images[STATE]}
    policy = LeRobot(SUITE, save(tmp_path, settings, rename_map={IMAGE: camera2, IMAGE2: camera1}))
    assert policy.checkpoint.cameras == {camera1: "wrist", camera2: "agentview"}
    assert policy.checkpoint.sources == {camera1: IMAGE2, camera2: IMAGE, STATE: STATE}


def test_unknown_cameras_must_be_named(tmp_path):
    settings = config("smolvla")
    front, top = "observation.images.front", "observation.images.top"
    settings["input_features"] |= {front: {"type": "VISUAL", "shape": [3, 480, 640]},
                                   "observation.images.empty_camera_0": {"type": "VISUAL", "shape": [3, 480, 640]}}
    settings["input_features"][top] = settings["input_features"].pop(IMAGE)
    text = refusal(save(tmp_path, settings))
    assert f"image {front!r}: which view is it? Allowed: agentview, wrist" in text and f"image {top!r}" in text
    assert "empty_camera" not in text
    policy = LeRobot(SUITE, str(tmp_path), views={top: "agentview", front: None})
    assert policy.checkpoint.cameras == {IMAGE2: "wrist", top: "agentview"}
    assert "Did you mean 'observation.images.front'" in refusal(tmp_path, views={"observation.images.fron": "wrist"})
    assert f"image {front!r}" in refusal(tmp_path, views={top: "agentview", front: "ego_view"})
    assert "allowed: a mapping" in refusal(tmp_path, views="agentview")


def test_only_smolvla_runs_without_a_camera(tmp_path):
    assert f"image {IMAGE2!r}" in refusal(save(tmp_path), views={IMAGE2: None})


def test_another_embodiment_is_told_everything_at_once(tmp_path):
    settings = config()
    settings["input_features"] = {
        IMAGE: {"type": "VISUAL", "shape": [3, 480, 640]}, "observation.images.top": {"type": "VISUAL",
                                                                                      "shape": [3, 480, 640]},
        STATE: {"type": "STATE", "shape": [14]}, "observation.environment_state": {"type": "ENV", "shape": [3]}}
    settings["output_features"] = {ACTION: {"type": "ACTION", "shape": [14]}}
    text = refusal(save(tmp_path, settings))
    assert "does not fit libero_goal" in text and text.count("\n  - ") == 5
    assert "[3, 480, 640] (channels, height, width); the suite's views are [3, 256, 256]" in text
    assert "'observation.images.top': which view is it?" in text
    assert "'observation.state' has shape [14]; the suite's state is [8]" in text
    assert "'observation.environment_state' [3]" in text
    assert "'action' has shape [14]; the suite takes [7]: robosuite OSC_POSE delta" in text


@pytest.mark.parametrize(("settings", "fits"), [
    (config("smolvla"), True), (config("diffusion", resize_shape=[128, 128]), True), (config("diffusion"), False)])
def test_another_image_size_is_for_policies_that_resize(tmp_path, settings, fits):
    for name in (IMAGE, IMAGE2):
        settings["input_features"][name]["shape"] = [3, 360, 360]
    if fits:
        LeRobot(SUITE, save(tmp_path, settings))
    else:
        assert "does not resize" in refusal(save(tmp_path, settings))


def test_a_policy_without_state(tmp_path):
    settings = config()
    del settings["input_features"][STATE]
    assert LeRobot(SUITE, save(tmp_path, settings)).spec.state == ()


@pytest.mark.parametrize("kind", REFUSED)
def test_types_that_are_not_served_say_why(tmp_path, kind):
    text = refusal(save(tmp_path, config(kind)))
    assert f"type {kind!r}, which is not served: {REFUSED[kind]}" in text and ", ".join(LONGEST) in text


def test_an_unknown_type(tmp_path):
    assert "unknown type of LeRobot policy" in refusal(save(tmp_path, config("actt"))) \
        and "Did you mean 'act'" in refusal(tmp_path)


@pytest.mark.parametrize(("file", "said"), [
    ("config.json", "no config.json in"), ("model.safetensors", "has no model.safetensors"),
    ("policy_preprocessor.json", "migrate_policy_normalization"),
    ("policy_postprocessor.json", "migrate_policy_normalization"),
    ("preprocessor.safetensors", f"no statistics of {IMAGE}, {IMAGE2}, {STATE} in preprocessor.safetensors"),
    ("postprocessor.safetensors", f"no statistics of {ACTION} in postprocessor.safetensors"),
])
def test_a_file_that_is_missing(tmp_path, file, said):
    save(tmp_path)
    (tmp_path / file).unlink()
    assert said in refusal(tmp_path)


def test_statistics_are_needed_where_something_is_normalised(tmp_path):
    """With VISUAL as it is and no statistics of images, nothing is missing; without those of the state, they are."""
    settings = config(normalization_mapping={"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"})
    save(tmp_path, settings)
    save_tensors(tmp_path / "preprocessor.safetensors", [f"{STATE}.mean", f"{STATE}.std"])
    LeRobot(SUITE, str(tmp_path))
    save_tensors(tmp_path / "preprocessor.safetensors", [f"{ACTION}.mean"])
    assert f"no statistics of {STATE} in preprocessor.safetensors" in refusal(tmp_path)


@pytest.mark.parametrize(("file", "content", "said"), [
    ("config.json", "{", "cannot read"), ("config.json", "[]", "holds list"),
    ("config.json", '{"type": "act"}', "no input_features"),
    ("policy_preprocessor.json", "{}", "no list of steps"),
    ("policy_postprocessor.json", '{"steps": []}', "no step 'unnormalizer_processor'"),
    ("preprocessor.safetensors", "not one", "is not a safetensors file"),
])
def test_a_file_that_is_malformed(tmp_path, file, content, said):
    save(tmp_path)
    (tmp_path / file).write_text(content)
    assert said in refusal(tmp_path)


def test_an_adapter_says_what_it_is(tmp_path):
    save(tmp_path, config(use_peft=True))
    (tmp_path / "model.safetensors").unlink()
    assert "It is an adapter (use_peft)" in refusal(tmp_path)


def test_it_needs_a_checkpoint_and_libero(tmp_path):
    assert "-o checkpoint=" in refusal("")
    with pytest.raises(InputError, match="not for robocasa_gr1"):
        LeRobot(load_suite("robocasa_gr1"), save(tmp_path))


def test_the_header_of_a_safetensors_file(tmp_path):
    save_tensors(tmp_path / "file", ["a.mean", "b.std"])
    assert read_dtypes(tmp_path / "file") == {"a.mean": "F32", "b.std": "F32"}
