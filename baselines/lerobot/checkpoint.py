"""A LeRobot checkpoint as far as it can be read without torch and lerobot: what it needs, and whether LIBERO has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import InputError, unknown
from evalkit.parsing import parse_json, read_text
from evalkit.suite import Suite

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"

#: Names of features, lerobot/utils/constants.py.
ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."

#: LIBERO's 8 numbers in lerobot's order (lerobot/processor/env_processor.py, LiberoProcessorStep).
STATE_GROUPS = ("eef_pos", "eef_axis_angle", "gripper_qpos")

#: Last part of a camera's name -> our view. `image`, `image2`: lerobot/envs/libero.py (camera_name_mapping);
#: `wrist_image`: openpi's conversion of LIBERO (examples/libero/convert_libero_data_to_lerobot.py).
VIEWS = {"image": "agentview", "image2": "wrist", "wrist_image": "wrist", "agentview": "agentview", "wrist": "wrist"}

#: Policy types that are served -> the most actions that one prediction gives, from the numbers in config.json
#: (lerobot/policies/<type>/configuration_<type>.py).
LONGEST = {
    "act": lambda config: config["chunk_size"],
    "smolvla": lambda config: config["chunk_size"],
    "diffusion": lambda config: config["horizon"] - config["n_obs_steps"] + 1,
    "vqbet": lambda config: config["action_chunk_size"],
}

#: Types of lerobot 0.4.4 that are refused, and why.
_FORK = ("it needs lerobot's own fork of transformers, which is in no package index; serve an openpi checkpoint with "
         "openpi's server and use --policy remote")
REFUSED = {
    "pi0": _FORK, "pi05": _FORK, "pi0_fast": _FORK,
    "groot": "it needs flash-attn; serve a GR00T checkpoint with Isaac-GR00T's server and use --policy remote",
    "xvla": "its LIBERO checkpoints give absolute poses (lerobot-eval --env.control_mode=absolute); the suite takes "
            "deltas",
    "wall_x": "it needs transformers 4.49 and peft, which the other types do not run with",
    "tdmpc": "lerobot 0.4.4 itself runs it with one image called observation.image only, and LIBERO's have other names",
    "sac": "it has no action chunks and no processors of its own",
    "reward_classifier": "it is a reward model", "sarm": "it is a reward model",
}

#: Steps that the served types' processors are made of. lerobot imports and calls whatever class a step names instead,
#: also `subprocess.Popen` (lerobot/processor/pipeline.py, `_resolve_step_class`), and some registered steps run code of
#: a model's folder (`action_tokenizer_processor` trusts it by default), so no other step is loaded.
STEPS = ("rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor",
         "unnormalizer_processor", "tokenizer_processor", "smolvla_new_line_processor")

#: Bytes of the longest header of a safetensors file (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
LONGEST_HEADER = 100_000_000

#: Inputs that lerobot fills itself, for robots with fewer cameras than the policy has places.
EMPTY = IMAGES + "empty_camera_"


@dataclass(frozen=True)
class Checkpoint:
    """What config.json and the processors say.

    kind: lerobot's policy type. cameras: image feature as the policy calls it -> our view. sources: feature as the
    policy calls it -> name under which its preprocessor expects it. state: whether it reads the robot's state.
    steps: actions executed before the policy predicts again (lerobot's n_action_steps); longest: actions in one
    prediction. stepwise: must be called at every control step, since it keeps observations or mixes predictions.
    """

    folder: Path
    kind: str
    cameras: Mapping[str, str]
    sources: Mapping[str, str]
    state: bool
    steps: int
    longest: int
    stepwise: bool


def read_checkpoint(folder: str | Path, suite: Suite, executed_steps: int | None = None,
                    views: Mapping[str, str | None] | None = None) -> Checkpoint:
    """The Checkpoint in `folder`, checked against `suite` (a LIBERO one). Reads JSON and headers only.

    Raises InputError on a missing or malformed file, on a policy type that is not served, on processors that would run
    code, and, all in one list, on everything that does not fit the suite.
    """
    folder = Path(os.path.expanduser(folder)).resolve()
    try:
        return _read(folder, suite, executed_steps, views)
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"the JSON files in {folder} are not as lerobot writes them: {type(error).__name__}: {error}"
                         ) from error


def _read(folder: Path, suite: Suite, executed_steps: int | None, views: Mapping[str, str | None] | None) -> Checkpoint:
    config = read_json(folder, CONFIG, "the folder of one policy, saved by lerobot (often .../pretrained_model)")
    kind = _kind(folder, config)
    if not (folder / WEIGHTS).is_file():
        adapter = " It is an adapter (use_peft): merge it into its base first." if config.get("use_peft") else ""
        raise InputError(f"{folder} has no {WEIGHTS}.{adapter}")
    sources = _sources(folder, config)
    problems: list[str] = []
    cameras = _cameras(config, kind, suite, sources, views, problems)
    _check_features(config, kind, suite, problems)
    for name, step, features in ((PREPROCESSOR, "normalizer_processor", config["input_features"]),
                                 (POSTPROCESSOR, "unnormalizer_processor", config["output_features"])):
        _check_statistics(folder, name, step, features, config, problems)
    if problems:
        raise InputError(f"the {kind} checkpoint in {folder} does not fit {suite.name}:\n"
                         + "\n".join(f"  - {problem}" for problem in problems)
                         + "\nIt was probably trained for another robot or data set.")
    try:
        longest, stepwise = int(LONGEST[kind](config)), is_stepwise(config)
    except KeyError as error:
        raise InputError(f"{folder / CONFIG} has no {error}, which lerobot writes for type {kind!r}") from error
    fixed = "n_action_steps" not in config or config.get("temporal_ensemble_coeff") is not None
    return Checkpoint(folder, kind, cameras, sources, STATE in config["input_features"],
                      _steps(config, longest, fixed, executed_steps), longest, stepwise)


def is_stepwise(config: Mapping[str, Any]) -> bool:
    """Whether the policy must see every control step: it keeps a history of observations (n_obs_steps), or averages the
    predictions of many steps (ACT's temporal ensemble)."""
    return config["n_obs_steps"] > 1 or config.get("temporal_ensemble_coeff") is not None


def read_json(folder: Path, name: str, expected: str) -> dict[str, Any]:
    """The object in ``folder/name``. Raises InputError, saying what was `expected`."""
    path = folder / name
    try:
        found = parse_json(read_text(path))
    except FileNotFoundError:
        raise InputError(f"no {name} in {folder}; expected {expected}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__}, expected an object; expected {expected}")
    return found


def read_dtypes(path: Path) -> dict[str, str]:
    """Tensor names of a safetensors file and their types as it writes them (F32, BF16 ...), from its JSON header, which
    8 bytes of length precede. Raises InputError."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"its header claims {length} bytes")
            header = parse_json(file.read(length))
        return {name: str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def _kind(folder: Path, config: Mapping[str, Any]) -> str:
    kind = config.get("type")
    if kind in REFUSED:
        raise InputError(f"{folder} holds a LeRobot policy of type {kind!r}, which is not served: {REFUSED[kind]}.\n"
                         f"Served: {', '.join(LONGEST)}")
    if kind not in LONGEST:
        raise unknown(f"type of LeRobot policy in {folder / CONFIG}", kind, LONGEST)
    for name in ("input_features", "output_features"):
        features = config.get(name)
        if not isinstance(features, dict) or not all(isinstance(entry, dict) for entry in features.values()):
            raise InputError(f"{folder / CONFIG} has no {name}; it is not the config of a trained policy")
    return kind


def _sources(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Feature -> its name before the preprocessor's renaming step."""
    renamed = {}
    for step in _steps_of(folder, PREPROCESSOR):
        if step.get("registry_name") == "rename_observations_processor":
            renamed |= step.get("config", {}).get("rename_map") or {}
    backwards = {new: old for old, new in renamed.items()}
    return {feature: backwards.get(feature, feature) for feature in config["input_features"]}


def _steps_of(folder: Path, name: str) -> list[dict[str, Any]]:
    expected = ("the processors that lerobot 0.4 and later saves beside a policy; for an older checkpoint run "
                "`python -m lerobot.processor.migrate_policy_normalization --pretrained-path ...`")
    steps = read_json(folder, name, expected).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise InputError(f"{folder / name} has no list of steps; expected {expected}")
    for step in steps:
        if step.get("registry_name") not in STEPS:
            what = f"class {step['class']!r}" if "class" in step else f"step {step.get('registry_name')!r}"
            raise InputError(f"{folder / name} has the {what}, which may run code of its own; only the steps of the "
                             f"served types are loaded: {', '.join(STEPS)}")
        file = step.get("state_file")
        if file is not None and (not isinstance(file, str) or file in ("", "..") or Path(file).name != file):
            raise InputError(f"{folder / name} names the state file {file!r}; allowed: a file of the same folder")
    return steps


def _cameras(config: Mapping[str, Any], kind: str, suite: Suite, sources: Mapping[str, str],
             views: Mapping[str, str | None] | None, problems: list[str]) -> dict[str, str]:
    """Image feature -> view: as `views` says, else by name. None there: SmolVLA runs without that camera."""
    images = {name: feature for name, feature in config["input_features"].items() if feature.get("type") == "VISUAL"}
    guessed = {name: VIEWS.get(sources[name].rpartition(".")[2]) for name in images if not name.startswith(EMPTY)}
    for name in views or {}:
        if name not in images:
            raise unknown("image feature in option views of policy 'lerobot'", name, images)
    cameras: dict[str, str] = {}
    for name, view in {**guessed, **(views or {})}.items():
        if view in suite.views:
            cameras[name] = view
            _check_image(name, images[name], config, kind, suite.views[view], problems)
        elif not (kind == "smolvla" and view is None and name in (views or {})):
            problems.append(f"image {name!r}: which view is it? Allowed: {', '.join(suite.views)}; say it with the "
                            f"option views, as -o 'views={{{name}: {next(iter(suite.views))}}}'")
    if not cameras and not problems:
        problems.append("it looks through no camera")
    return cameras


def _check_image(name: str, feature: Mapping[str, Any], config: Mapping[str, Any], kind: str,
                 view: tuple[int, int, int], problems: list[str]) -> None:
    """lerobot feeds what the camera gives; only types that resize by themselves take another size."""
    resizes = config.get("resize_imgs_with_padding" if kind == "smolvla" else "resize_shape") is not None
    expected = [view[2], view[0], view[1]]
    shape = list(feature.get("shape") or ())
    if shape != expected and not (resizes and shape[:1] == expected[:1]):
        problems.append(f"image {name!r} has shape {shape} (channels, height, width); the suite's views are {expected} "
                        f"and type {kind!r} with this config does not resize")


def _check_features(config: Mapping[str, Any], kind: str, suite: Suite, problems: list[str]) -> None:
    """State and action against the suite; other inputs do not exist here."""
    size = sum(suite.state[group] for group in STATE_GROUPS)
    for name, feature in config["input_features"].items():
        shape = list(feature.get("shape") or ())
        if feature.get("type") == "VISUAL":
            continue
        if name != STATE:
            problems.append(f"input {name!r} {shape}: the suite gives images, {STATE!r} and the instruction only")
        elif shape != [size]:
            problems.append(f"{STATE!r} has shape {shape}; the suite's state is [{size}]: {', '.join(STATE_GROUPS)}")
    shape = list(config["output_features"].get(ACTION, {}).get("shape") or ())
    if shape != [suite.action.size]:
        problems.append(f"{ACTION!r} has shape {shape}; the suite takes [{suite.action.size}]: {suite.action.meaning}")
    if config.get("adapt_to_pi_aloha"):
        problems.append("adapt_to_pi_aloha is set: its numbers are an Aloha robot's")


def _check_statistics(folder: Path, name: str, step_name: str, features: Mapping[str, Any],
                      config: Mapping[str, Any], problems: list[str]) -> None:
    """Every feature that is normalised has statistics: without, lerobot passes it on as it is and says nothing
    (lerobot/processor/normalize_processor.py, `_apply_transform`)."""
    step = next((step for step in _steps_of(folder, name) if step.get("registry_name") == step_name), None)
    if step is None:
        problems.append(f"{name} has no step {step_name!r}")
        return
    file = folder / str(step.get("state_file") or f"({name} names no state_file)")
    known = {tensor.rpartition(".")[0] for tensor in read_dtypes(file)} if file.is_file() else set()
    modes = step.get("config", {}).get("norm_map") or config.get("normalization_mapping") or {}
    missing = [feature for feature, entry in features.items() if feature not in known
               and not feature.startswith(EMPTY) and modes.get(entry.get("type"), "IDENTITY") != "IDENTITY"]
    if missing:
        problems.append(f"no statistics of {', '.join(missing)} in {file.name}")


def _steps(config: Mapping[str, Any], longest: int, fixed: bool, asked: int | None) -> int:
    """Actions executed before the next prediction. Raises InputError on a number that the policy does not allow."""
    own = config.get("n_action_steps", longest)
    least, most = (own, own) if fixed else (1, longest)
    if asked is None:
        return own
    if not isinstance(asked, int) or isinstance(asked, bool) or not least <= asked <= most:
        raise InputError(f"option executed_steps of policy 'lerobot' is {asked!r}; allowed: "
                         + (f"{own}, which this policy fixes" if fixed else f"1 to {longest}; its own is {own}"))
    return asked
