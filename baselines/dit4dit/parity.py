"""Compares this policy with recorded runs of upstream's.

    python -m baselines.dit4dit.parity FOLDER [--base BASE] [--dtype fp32|bf16|bf16_all|all]

FOLDER holds run/ (a checkpoint), inputs.npz, noise.npz, expected_*.npz and client.npz; or text_cases.json,
image_cases.npz and resize_cases.npz. BASE defaults to cosmos_base beside FOLDER. Exit status 1 when a quantity is over
its tolerance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.common.checkpoint import read_state_dict
from baselines.common.config import read_config
from baselines.common.layouts import LAYOUTS, Layout, action_statistics, read_statistics, resize
from baselines.common.parity import Report
from baselines.dit4dit.config import FOLDER, TEXT_LENGTH, Settings, read_settings
from baselines.dit4dit.frames import channels_first, to_pixels
from baselines.dit4dit.model import PRECISIONS, Model, Noise, load_model
from baselines.dit4dit.text import Tokenizer
from evalkit.errors import InputError

#: Absolute tolerances of the fp32 run, as the fixtures' README suggests them. 0: equal.
TOLERANCES = {
    "input_ids": 0, "t_steps": 0, "cond_indicator": 0, "timestep": 0, "video_m11_corner": 0,
    "text_features": 2e-5, "text_projected": 2e-5, "vae_mean": 2e-5, "vae_logvar": 2e-5, "cond_latents": 2e-5,
    "block_outputs_ex0": 5e-6, "features": 5e-6, "state_feature": 5e-6, "temb_steps": 5e-6,
    "x_steps": 5e-6, "v_steps": 2e-5, "normalized_actions": 5e-6,
}

#: (largest, root mean square) of the bf16 runs: `features` and `normalized_actions` as the README suggests them, the
#: same for what comes before each.
ROUNDED_TOLERANCES: dict[str, tuple[float, float | None]] = {
    "text_features": (3e-2, 5e-3), "vae_mean": (3e-2, 5e-3), "vae_logvar": (3e-2, 5e-3), "cond_latents": (3e-2, 5e-3),
    "timestep": (0, None), "features": (3e-2, 5e-3), "state_feature": (5e-6, None), "temb_steps": (5e-6, None),
    "x_steps": (1e-2, 2e-3), "v_steps": (1e-2, 2e-3), "normalized_actions": (1e-2, 2e-3),
}

#: File of expected values of each dtype.
EXPECTED = {"fp32": "expected_fp32.npz", "bf16": "expected_bf16_backbone.npz", "bf16_all": "expected_use_bf16_flag.npz"}


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m baselines.dit4dit.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, help="folder of the Cosmos base model; default: cosmos_base beside it")
    parser.add_argument("--dtype", choices=[*EXPECTED, "all"], default="all")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    base = chosen.base or chosen.folder.resolve().parent / "cosmos_base"
    dtypes = list(EXPECTED) if chosen.dtype == "all" else [chosen.dtype]
    try:
        return compare_folder(chosen.folder, base, dtypes, torch.device(chosen.device)).finish()
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def compare_folder(folder: Path, base: Path, dtypes: list[str], device: torch.device) -> Report:
    """Everything that can be compared in `folder`. Raises InputError when there is nothing."""
    report = Report()
    if (folder / "run").is_dir():
        fixture = Fixture(folder)
        compare_adapters(report, fixture)
        for dtype in dtypes:
            model = fixture.model(base, dtype, device)
            compare_model(report, fixture, model, dtype)
            if dtype == "fp32":
                compare_single_calls(report, fixture, model)
    elif (folder / "text_cases.json").is_file():
        compare_cases(report, folder, base)
    else:
        raise InputError(f"{folder} holds neither run/ nor text_cases.json; expected a folder of parity fixtures")
    return report


class Fixture:
    """A recorded run: its checkpoint's settings, inputs and noise."""

    def __init__(self, folder: Path):
        self.folder, self.run = folder, folder / "run"
        self.inputs, self.client, self.noise_file = (read_arrays(folder / f"{name}.npz")
                                                     for name in ("inputs", "client", "noise"))
        config = self.run / "config.yaml"
        self.settings: Settings = read_settings(read_config(config, FOLDER), config)
        parsed = read_statistics(self.run / "dataset_statistics.json")
        self.layout: Layout = next(layout for layout in LAYOUTS if layout.tag in parsed)
        self.statistics = action_statistics(parsed, self.layout, self.run)

    def model(self, base: Path, dtype: str, device: torch.device) -> Model:
        """The checkpoint, loaded."""
        weights = self.run / "final_model" / "pytorch_model.pt"
        return load_model(read_state_dict(weights), base, self.settings, PRECISIONS[dtype], device, weights)

    def noise(self, device: torch.device) -> Noise:
        """The recorded draws; only latent frame 0 of the posterior's matters."""
        draws = {name: torch.from_numpy(self.noise_file[f"{name}_noise"]) for name in ("posterior", "video", "action")}
        return Noise(draws["posterior"][:, :, 0], draws["video"], draws["action"]).to(device)

    def views(self, index: int) -> dict[str, np.ndarray]:
        """Views of example `index` as the suite shows them; LIBERO's are turned by 180 degrees."""
        if self.layout.name == "gr1":
            return {"ego_view": self.inputs["raw_image"][index]}
        raw = {"agentview": "raw_agentview_image", "wrist": "raw_robot0_eye_in_hand_image"}
        return {view: np.ascontiguousarray(self.inputs[name][index][::-1, ::-1]) for view, name in raw.items()}

    def state(self, index: int) -> dict[str, np.ndarray]:
        """State groups of example `index`; LIBERO's axis angle as upstream's client converted it."""
        if self.layout.name == "gr1":
            return {group: self.inputs[f"raw_state_{group}"][index] for group in self.layout.state}
        ends = np.cumsum(list(self.layout.state.values()))[:-1]
        return dict(zip(self.layout.state, np.split(self.client["state_raw8"][index], ends)))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises InputError when there is none."""
    if not path.is_file():
        raise InputError(f"fixture file {path} is missing")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def compare_adapters(report: Report, fixture: Fixture) -> None:
    """Raw observations to the model's inputs, the model's outputs to the environment."""
    layout, inputs, client = fixture.layout, fixture.inputs, fixture.client
    indices = range(len(inputs["example_image"]))
    report.compare("example_image", np.stack([layout.image(fixture.views(index)) for index in indices]),
                   inputs["example_image"], 0)
    states = [layout.encode_state(fixture.state(index), fixture.settings.state_dim)[None] for index in indices]
    report.compare("example_state", np.stack(states), inputs["example_state"], 1e-6)
    chunks = [layout.unnormalize(chunk, fixture.statistics) for chunk in client["normalized_actions"]]
    report.compare("client: unnormalized_full", np.stack(chunks), client["unnormalized_full"], 1e-5)
    compare_commands(report, fixture, "client", chunks)


def compare_commands(report: Report, fixture: Fixture, name: str, chunks: list[np.ndarray]) -> None:
    """What goes to the environment: GR1's groups of 12 steps, LIBERO's three chunks after 10 wait steps."""
    layout, client = fixture.layout, fixture.client
    commands = np.stack([layout.to_suite(chunk)[:layout.executed_steps] for chunk in chunks])
    if layout.gripper is None:
        expected = np.concatenate([client[f"action_{group}"] for group in layout.state], axis=-1)
        report.compare(f"{name}: action groups", commands, expected, 1e-5)
    else:
        expected = client["env_actions"][10:].reshape(commands.shape)
        report.compare(f"{name}: env_actions", commands, expected, 1e-5)
        report.compare(f"{name}: gripper sign", commands[..., layout.gripper], expected[..., layout.gripper], 0)


def predict(model: Model, fixture: Fixture, instructions: list[str], rows: list[int], trace: dict[str, Any]):
    """The chunk (len(rows), T, A) for recorded examples and draws; `trace` receives all in between."""
    device = model.device
    pixels = torch.from_numpy(np.stack([to_pixels(fixture.inputs["example_image"][row]) for row in rows])).to(device)
    state = torch.from_numpy(fixture.inputs["example_state"][rows]).to(device)
    noise = fixture.noise(device)
    noise = Noise(noise.posterior[rows], noise.video[rows], noise.action[rows])
    traces: list[dict[str, Any]] = [{} for _ in rows]
    text = torch.cat([model.text(lang, each) for lang, each in zip(instructions, traces)])
    for key in ("input_ids", "text_features", "text_projected"):
        trace[key] = torch.cat([each[key] for each in traces])
    features = model.features(model.latents(pixels, noise, trace), noise, text, trace)
    trace.update(features=features, video_m11_corner=pixels[:, :, :24, :24])
    trace["block_outputs_ex0"] = torch.stack([output[0] for output in trace.pop("block_outputs")])
    trace["normalized_actions"] = model.actions(features, state, noise, trace)
    return trace["normalized_actions"]


def compare_model(report: Report, fixture: Fixture, model: Model, dtype: str) -> None:
    """A batch of all examples with the recorded draws, each quantity on the way."""
    expected = read_arrays(fixture.folder / EXPECTED[dtype])
    trace: dict[str, Any] = {}
    instructions = [str(text) for text in fixture.inputs["example_lang"]]
    predict(model, fixture, instructions, list(range(len(instructions))), trace)
    if "block_outputs_ex0" in expected:
        expected["block_outputs_ex0"] = expected["block_outputs_ex0"][:len(trace["block_outputs_ex0"])]
    if dtype == "fp32":
        limits: Mapping[str, tuple[float, float | None]] = {name: (value, None) for name, value in TOLERANCES.items()}
    else:
        limits = ROUNDED_TOLERANCES
    for name in expected:
        if name in limits:
            report.compare(f"{dtype}: {name}", trace[name], expected[name], *limits[name])


def compare_single_calls(report: Report, fixture: Fixture, model: Model) -> None:
    """The client's calls of one example each, up to what goes to the environment. LIBERO's loop asked all three with
    one instruction."""
    inputs = fixture.inputs
    rows = range(len(inputs["example_image"]))
    langs = [str(inputs["lang_episode"]) if "lang_episode" in inputs else str(inputs["example_lang"][row])
             for row in rows]
    chunks = [predict(model, fixture, [langs[row]], [row], {})[0].cpu().numpy() for row in rows]
    report.compare("single calls: normalized_actions", np.stack(chunks), fixture.client["normalized_actions"], 5e-6)
    actions = [fixture.layout.unnormalize(chunk, fixture.statistics) for chunk in chunks]
    report.compare("single calls: unnormalized_full", np.stack(actions), fixture.client["unnormalized_full"], 1e-5)
    compare_commands(report, fixture, "single calls", actions)


def compare_cases(report: Report, folder: Path, base: Path) -> None:
    """Prompts to ids, images to pixels, resizing."""
    tokenizer = Tokenizer(base / "tokenizer", TEXT_LENGTH)
    for index, case in enumerate(json.loads((folder / "text_cases.json").read_text())):
        expected = case["ids"] + [case["pad_id"]] * (case["total"] - len(case["ids"]))
        report.compare(f"text case {index}: ids", tokenizer.ids(case["text"])[0], np.array(expected), 0)
    images = read_arrays(folder / "image_cases.npz")
    for name in [key.removesuffix("__in") for key in images if key.endswith("__in")]:
        report.compare(f"image {name}: chw01", channels_first(images[f"{name}__in"]), images[f"{name}__chw01"], 0)
        report.compare(f"image {name}: clip_m11", to_pixels(images[f"{name}__in"]), images[f"{name}__clip_m11"], 0)
    sizes = read_arrays(folder / "resize_cases.npz")
    for name in [key.removeprefix("in_") for key in sizes if key.startswith("in_")]:
        report.compare(f"resize {name}", resize(sizes[f"in_{name}"]), sizes[f"out_{name}"], 0)


if __name__ == "__main__":
    sys.exit(main())
