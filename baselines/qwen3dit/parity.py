"""Compares this policy with values recorded from starVLA's own code: ``python -m baselines.qwen3dit.parity DIR``.

DIR holds run/ (a checkpoint), the base VLM's folder, inputs.npz, noise.npz, expected_fp32.npz, client.npz and, if need
be, expected_bf16_backbone.npz. Prints each quantity's largest error beside its tolerance; exits 1 when one is over.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.common.parity import Report, as_array
from baselines.qwen3dit import Qwen3DiT
from baselines.qwen3dit.model import Example, Network
from baselines.qwen3dit.prompt import ChatText, server_view
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.registry import load_suite
from evalkit.suite import Observation

SUITE = "robocasa_gr1"

#: Largest differences allowed: features of two kernels differ by 1.4e-5 on these weights, actions by 4.3e-6.
EXACT, PIXELS, EMBEDDINGS, FEATURES, ACTIONS, UNNORMALIZED = 0.0, 1e-6, 1e-4, 1e-4, 2e-5, 1e-5

#: What bf16 may differ by, (largest, rms): three rounding steps at the features' magnitude of 12, and what they do to
#: actions. bf16 and fp32 of upstream itself differ by 0.23, 0.036 and 0.047, 0.010.
BF16_FEATURES, BF16_ACTIONS = (0.19, 0.02), (5e-2, 6e-3)

#: How far actions move at least when the head looks at padding (0.65 were measured).
MASK_MATTERS = 0.1

#: Actions of a chunk that starVLA's GR1 client executes.
EXECUTED = 12


@dataclass(frozen=True)
class Case:
    """One way to run the network beside the arrays recorded for it."""

    network: Network
    examples: list[Example]
    options: Mapping[str, Any]

    def run(self) -> dict[str, np.ndarray]:
        """Every quantity on the way, as arrays."""
        trace: dict[str, Any] = {}
        self.network.sample(self.examples, trace=trace, **self.options)
        return {name: as_array(value) for name, value in trace.items() if value is not None}


def make_policy(folder: Path, base_vlm: str, device: str, dtype: str = "fp32") -> Qwen3DiT:
    """The loaded policy of the fixture in `folder`. Raises InputError when something is missing."""
    if not base_vlm:
        found = sorted(path.parent for path in folder.glob("*/preprocessor_config.json"))
        base_vlm = str(found[0]) if len(found) == 1 else ""
    policy = Qwen3DiT(load_suite(SUITE), checkpoint=str(folder / "run"), base_vlm=base_vlm, device=device, dtype=dtype)
    policy.load()
    return policy


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Arrays of one file. Raises InputError when it is missing."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path} is missing; DIR is a folder of recorded values such as starvla_gr00t/")
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


def observations(policy: Qwen3DiT, inputs: Mapping[str, np.ndarray]) -> list[Observation]:
    """What the simulator gave."""
    states = [name.removeprefix("raw_state_") for name in inputs if name.startswith("raw_state_")]
    return [Observation({"ego_view": image}, {name: inputs[f"raw_state_{name}"][index] for name in states},
                        str(inputs["lang"][index]), Episode(SUITE, 0, index, 7, 720), 0)
            for index, image in enumerate(inputs["raw_image"])]


def compare_batch(report: Report, title: str, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray],
                  limits: Mapping[str, float]) -> None:
    """Rows for the arrays named in `limits`; features only where the prompt is not padding."""
    valid = expected["attention_mask"].astype(bool)
    for name, limit in limits.items():
        one, other = got[name], expected[name]
        if name == "vl_features":
            one, other = one[valid], other[valid]
        report.compare(f"{title}: {name}", one, other, limit)


def compare_variants(report: Report, policy: Qwen3DiT, network: Network, examples: list[Example],
                     inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Rows for calls of one, two views, no sentence around the instruction, no state; and for a head that looks at
    padding, as in older commits of starVLA: another answer."""
    def actions(shown: list[Example], used: Network = network) -> dict[str, np.ndarray]:
        return Case(used, shown, {}).run()

    single = np.concatenate([actions([example])["normalized_actions"] for example in examples])
    report.compare("calls of one: actions", single, expected["single_normalized_actions"], ACTIONS)

    size = policy.settings.image_size
    views = [replace(example, images=[server_view(view, size) for view in pair])
             for example, pair in zip(examples, inputs["two_views_image"])]
    two = actions(views)
    valid = two["attention_mask"].astype(bool)
    report.compare("two views: input_ids", two["input_ids"], expected["two_views_input_ids"], EXACT)
    report.compare("two views: image_grid_thw", two["image_grid_thw"], expected["two_views_image_grid_thw"], EXACT)
    report.compare("two views: vl_features", two["vl_features"][valid], expected["two_views_vl_features"][valid],
                   FEATURES)
    report.compare("two views: actions", two["normalized_actions"], expected["two_views_normalized_actions"], ACTIONS)

    bare = actions(examples, replace(network, text=ChatText(policy.settings.base_vlm, None), prompts={}))
    report.compare("bare instruction: input_ids", bare["input_ids"], expected["no_cot_input_ids"], EXACT)
    report.compare("bare instruction: actions", bare["normalized_actions"], expected["no_cot_normalized_actions"],
                   ACTIONS)
    without = actions([replace(example, state=None) for example in examples])["normalized_actions"]
    report.compare("no state: actions", without, expected["no_state_normalized_actions"], ACTIONS)

    state, noise = (torch.from_numpy(np.stack([getattr(example, name) for example in examples])).to(network.device)
                    for name in ("state", "noise"))
    features = torch.from_numpy(expected["vl_features"]).to(network.device)  # padding too is upstream's here
    seen = as_array(network.head.sample(features, state[:, None], noise, mask=None))
    report.compare("padding looked at: actions", seen, expected["head_mask_ignored_normalized_actions"], ACTIONS)
    moved = np.abs(seen - expected["normalized_actions"]).max() > MASK_MATTERS
    report.compare(f"padding looked at: moves actions by > {MASK_MATTERS}", moved, True, EXACT)


def compare_client(report: Report, policy: Qwen3DiT, network: Network, examples: list[Example],
                   client: Mapping[str, np.ndarray]) -> None:
    """Rows for what goes to the simulator."""
    chunks = np.stack([policy.actions(network.sample([example])[0].cpu().numpy()) for example in examples])
    report.compare("un-normalised: server_actions", chunks, client["server_actions"], UNNORMALIZED)
    for group, values in load_suite(SUITE).action.split(chunks[:, :EXECUTED]).items():
        report.compare(f"un-normalised: action_{group}", values, client[f"action_{group}"], UNNORMALIZED)


def compare_fp32(report: Report, folder: Path, base_vlm: str, device: str) -> None:
    """All rows of expected_fp32.npz and client.npz."""
    policy = make_policy(folder, base_vlm, device)
    network = policy.network
    inputs, noise, expected = (read(folder, name) for name in ("inputs.npz", "noise.npz", "expected_fp32.npz"))
    examples = with_noise(policy, inputs, noise)
    report.compare("inputs: example_image", np.stack([example.images[0] for example in examples]),
                   inputs["example_image"], EXACT)
    report.compare("inputs: example_state", np.stack([example.state for example in examples])[:, None],
                   inputs["example_state"], PIXELS)
    heads = {"state_feature": PIXELS, "t_steps": EXACT, "x_steps": ACTIONS, "v_steps": 4 * ACTIONS,
             "normalized_actions": ACTIONS}
    compare_batch(report, "from raw inputs", Case(network, examples, {}).run(), expected, {
        "input_ids": EXACT, "attention_mask": EXACT, "image_grid_thw": EXACT, "pixel_values": PIXELS,
        "image_embeds": EMBEDDINGS, "deepstack_embeds": EMBEDDINGS, "vl_features": FEATURES, **heads})
    recorded = {"patches": torch.from_numpy(expected["pixel_values"])}
    compare_batch(report, "recorded pixels", Case(network, examples, recorded).run(), expected,
                  {"vl_features": FEATURES, **heads})
    compare_variants(report, policy, network, examples, inputs, expected)
    compare_client(report, policy, network, examples, read(folder, "client.npz"))


def compare_bf16(report: Report, folder: Path, base_vlm: str, device: str) -> None:
    """Rows of expected_bf16_backbone.npz, upstream's released precision emulated on a CPU: a secondary check."""
    policy = make_policy(folder, base_vlm, device, dtype="bf16")
    expected = read(folder, "expected_bf16_backbone.npz")
    valid = read(folder, "expected_fp32.npz")["attention_mask"] > 0
    got = Case(policy.network, with_noise(policy, read(folder, "inputs.npz"), read(folder, "noise.npz")), {}).run()
    report.compare("bf16: vl_features", got["vl_features"][valid], expected["vl_features"][valid], *BF16_FEATURES)
    report.compare("bf16: actions", got["normalized_actions"], expected["normalized_actions"], *BF16_ACTIONS)


def with_noise(policy: Qwen3DiT, inputs: Mapping[str, np.ndarray], noise: Mapping[str, np.ndarray]) -> list[Example]:
    """The policy's own examples of the raw inputs, starting from the recorded noise."""
    return [replace(policy.example(observation), noise=start)
            for observation, start in zip(observations(policy, inputs), noise["action_noise"])]


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--base-vlm", default="", help="the VLM's folder, where DIR does not hold exactly one")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    report = Report()
    try:
        compare_fp32(report, chosen.folder, chosen.base_vlm, chosen.device)
        if (chosen.folder / "expected_bf16_backbone.npz").is_file():
            compare_bf16(report, chosen.folder, chosen.base_vlm, chosen.device)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
