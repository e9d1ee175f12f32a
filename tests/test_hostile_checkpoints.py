"""Checkpoint folders, recordings and asset archives of a stranger: nothing in them runs, fills the memory or is written
elsewhere, and what is wrong is named. No torch: `tests/native` loads the weights themselves."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from baselines.common.config import read_config
from baselines.common.layouts import GR1, action_statistics, read_statistics
from baselines.dit4dit.config import FOLDER, read_settings
from baselines.lerobot.checkpoint import read_checkpoint, read_dtypes
from baselines.qwen3dit import settings as qwen
from baselines.remote.dit4dit import read_sizes
from baselines.replay import LONGEST, Replay
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.registry import load_suite
from suites.libero.assets import has_altered_visuals, missing_files
from suites.robocasa_gr1.assets import check_members
from tests import test_lerobot
from tests.hostile import spoilt, spoilt_bytes, tries, values
from tests.test_hostile_config import LAUGHS
from tests.test_layouts import CONFIG, gr1_statistics

TOY, LIBERO = load_suite("toy"), load_suite("libero_goal")

QWEN = {
    "framework": {"name": "QwenGR00T", "qwenvl": {"base_vlm": "base"}, "obs_image_size": [224, 224],
                  "action_model": {"action_model_type": "DiT-B", "state_dim": 64, "action_horizon": 16,
                                   "future_action_window_size": 15, "num_inference_timesteps": 4,
                                   "num_timestep_buckets": 1000, "add_pos_embed": True,
                                   "diffusion_model_cfg": {"norm_type": "ada_norm", "num_attention_heads": 12}}},
    "datasets": {"vla_data": {"CoT_prompt": "do {instruction}", "include_state": True}},
}


def refusal(function, *arguments) -> str:
    """The text of the InputError, of a length that one reads."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert len(str(caught.value)) < 3000
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run's folder in starVLA's layout, with the base folder that its config names."""
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "final_model").mkdir()
    (folder / "final_model" / "pytorch_model.pt").write_bytes(b"")
    for name in qwen.BASE_FILES:
        (folder / name).write_text('{"model_type": "qwen3_vl"}')
    return folder


# --- config.yaml


@given(config=spoilt(CONFIG))
@example(config={**CONFIG, "datasets": {"vla_data": {"video_delta_indices": 17, "action_video_freq_ratio": 2}}})
@example(config={**CONFIG, "datasets": {"vla_data": {"video_delta_indices": [0], "action_video_freq_ratio": 0}}})
@tries(60)
def test_any_config_of_dit4dit(folder, config):
    """Settings, or what of the file cannot be used."""
    path = folder / "config.yaml"
    path.write_bytes(yaml.safe_dump(config).encode("utf-8", "surrogatepass"))
    for read in (lambda: read_settings(read_config(path, FOLDER), path), lambda: read_sizes(path)):
        with suppress(InputError):
            read()


@given(config=spoilt(QWEN))
@tries(80)
def test_any_config_of_qwen3dit(folder, config):
    """The same for starVLA's."""
    (folder / "config.yaml").write_bytes(yaml.safe_dump(config).encode("utf-8", "surrogatepass"))
    with suppress(InputError):
        qwen.read_settings(folder / "final_model" / "pytorch_model.pt", str(folder))


def test_the_configs_are_good_ones(folder):
    """Before they are spoilt."""
    assert read_settings(CONFIG, "x").horizon == 16
    (folder / "config.yaml").write_text(yaml.safe_dump(QWEN))
    assert qwen.read_settings(folder / "final_model" / "pytorch_model.pt", str(folder)).horizon == 16


@pytest.mark.parametrize("number", ["action_dim", "state_dim", "action_horizon"])
def test_sizes_have_an_end(folder, number):
    """A config does not ask for all memory."""
    model = {**CONFIG["framework"]["action_model"], number: 10**9, "future_action_window_size": 10**9 - 1}
    config = {**CONFIG, "framework": {**CONFIG["framework"], "action_model": model}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    refusal(read_settings, config, "config.yaml")
    assert "1000000000; allowed" in refusal(read_sizes, folder / "config.yaml")


@pytest.mark.parametrize("text", [
    "framework: !!python/object/apply:os.system ['touch CANARY']",
    "framework: !!python/object/apply:subprocess.Popen [[touch, CANARY]]",
    "framework: !!python/object/new:type {args: [z, [], {extend: !!python/name:exec }], listitems: 'touch CANARY'}",
    "framework: !!python/module:antigravity", LAUGHS, "a: &a [*a]", "a: [" * 400])
def test_configs_do_not_run_and_do_not_grow(tmp_path, monkeypatch, text):
    """Tags of Python's, bombs and loops, in every place where a checkpoint's config.yaml is read."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert "cannot be read as YAML" in refusal(read_config, path, FOLDER)
    assert "no framework.action_model" in refusal(read_sizes, path)
    assert os.listdir(tmp_path) == ["config.yaml"]


# --- dataset_statistics.json


@given(statistics=spoilt(gr1_statistics(), times=3))
@tries(150)
def test_any_statistics(folder, statistics):
    """Finite columns, or what is wrong with the file."""
    path = folder / "dataset_statistics.json"
    path.write_text(json.dumps(statistics))
    with suppress(InputError):
        found = action_statistics(read_statistics(path), GR1, path)
        assert np.isfinite(found.low).all() and np.isfinite(found.high).all() and (found.low <= found.high).all()


@given(content=spoilt_bytes(json.dumps(gr1_statistics()).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"gr1": {}, "gr1": {}}')
@tries(100)
def test_damaged_statistics(folder, content):
    """The same for bytes."""
    (folder / "dataset_statistics.json").write_bytes(content)
    with suppress(InputError):
        action_statistics(read_statistics(folder / "dataset_statistics.json"), GR1, "x")


def test_reversed_statistics():
    """A least above the most would turn a joint round in silence."""
    statistics = gr1_statistics()
    statistics["gr1"]["action"]["min"][3] = 2.0
    assert "min is above max in column 3" in refusal(action_statistics, statistics, GR1, "x")


# --- LeRobot's folders


def step(**entry) -> dict:
    """A step of a processor."""
    return {"config": {}, **entry}


CODE = {
    "a function of the system": step(**{"class": "os.system", "config": {"command": "touch CANARY"}}),
    "a process": step(**{"class": "subprocess.Popen", "config": {"args": ["touch", "CANARY"]}}),
    "a module": step(**{"class": "antigravity.x"}),
    "a known name and a class": step(registry_name=None, **{"class": "subprocess.Popen"}),
    "code of a tokenizer": step(registry_name="action_tokenizer_processor", config={"trust_remote_code": True}),
    "a step of a robot": step(registry_name="gym_hil_adapter_processor"),
    "nothing": {},
    "a list as name": step(registry_name=["normalizer_processor"]),
}


@pytest.mark.parametrize("case", CODE)
@pytest.mark.parametrize("name", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_processors_do_not_run_code(tmp_path, case, name):
    """lerobot would import and call what a step names; only the steps of the served types are loaded at all."""
    test_lerobot.save(tmp_path)
    found = json.loads((tmp_path / name).read_text())
    found["steps"].append(CODE[case])
    (tmp_path / name).write_text(json.dumps(found))
    assert name in refusal(read_checkpoint, tmp_path, LIBERO)


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, ["x"]])
def test_state_files_lie_in_the_folder(tmp_path, file):
    """Statistics are read from the checkpoint's own folder."""
    test_lerobot.save(tmp_path)
    path = tmp_path / "policy_preprocessor.json"
    found = json.loads(path.read_text())
    found["steps"][1]["state_file"] = file
    path.write_text(json.dumps(found))
    assert "a file of the same folder" in refusal(read_checkpoint, tmp_path, LIBERO)


@given(data=st.data())
@tries(80)
def test_any_lerobot_folder(folder, data):
    """One of the three JSON files spoilt."""
    target = folder / "lerobot"
    target.mkdir(exist_ok=True)
    test_lerobot.save(target)
    name = data.draw(st.sampled_from(["config.json", "policy_preprocessor.json", "policy_postprocessor.json"]))
    (target / name).write_text(json.dumps(data.draw(spoilt(json.loads((target / name).read_text()), times=3))))
    with suppress(InputError):
        read_checkpoint(target, LIBERO)


@pytest.mark.parametrize("content", [
    (2**63).to_bytes(8, "little"), (2**40).to_bytes(8, "little") + b"{}", b"\xff" * 8 + b"{}", b"", b"\x02",
    (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{",
    (200_000).to_bytes(8, "little") + b"[" * 200_000, (12).to_bytes(8, "little") + b'{"a": "text"}',
    pickle.dumps({"a": 1})])
def test_safetensors_headers(tmp_path, content):
    """A header that claims more than safetensors allows, or is none, is not made room for."""
    (tmp_path / "x.safetensors").write_bytes(content)
    assert "is not a safetensors file" in refusal(read_dtypes, tmp_path / "x.safetensors")


@given(content=spoilt_bytes((30).to_bytes(8, "little") + b'{"a.mean": {"dtype": "F32"}}  ') | st.binary(max_size=30))
@tries(150)
def test_any_safetensors_header(folder, content):
    """Names and types, or not a safetensors file."""
    (folder / "x.safetensors").write_bytes(content)
    with suppress(InputError):
        read_dtypes(folder / "x.safetensors")


# --- recordings


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def npy(array: np.ndarray, claim: str = "") -> bytes:
    """An npy file of `array`, with another shape in its header if so wanted."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    return content.replace(b"(3, 2), }", claim.encode()) if claim else content


def recordings(canary: Path) -> dict[str, bytes]:
    return {
        "objects": npy(np.array([[Touch(canary)]], object)), "a pickle": pickle.dumps(Touch(canary)),
        "a huge claim": npy(np.zeros((3, 2)), "(9999999999, 2), }"), "another width": npy(np.zeros((3, 5))),
        "one axis": npy(np.zeros(3)), "nothing": b"", "half": npy(np.zeros((3, 2)))[:-5], "text": b"actions",
        "words": npy(np.array([["a", "b"]])), "a zip": b"PK\x03\x04" + bytes(40),
    }


@pytest.mark.parametrize("case", recordings(Path("x")))
@pytest.mark.parametrize("form", ["folder", "npz"])
def test_recordings_do_not_run(tmp_path, case, form):
    """Pickles are not unpickled, claims not believed: the episode's reset raises."""
    canary, episode = tmp_path / "CANARY", Episode("toy", 0, 0, 0, 40)
    content = recordings(canary)[case]
    if form == "folder":
        path = tmp_path / "run"
        (path / "actions/toy/00").mkdir(parents=True)
        (path / "actions/toy/00/000.npy").write_bytes(content)
    else:
        path = tmp_path / "recorded.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("toy/00/000.npy", content)
    policy = Replay(TOY, str(path))
    policy.check_plan([episode])
    with pytest.raises(ValueError):
        policy.reset(episode)
    assert not canary.exists()


def test_recordings_do_not_grow(tmp_path):
    """A bomb in an npz is told by its own header, before it is unpacked."""
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/00/000.npy", bytes(LONGEST + 1))
    with pytest.raises(ValueError, match="allowed"):
        Replay(TOY, str(tmp_path / "bomb.npz")).reset(Episode("toy", 0, 0, 0, 40))


@given(content=spoilt_bytes(npy(np.zeros((3, 2)))) | st.binary(max_size=60))
@tries(60)
def test_any_file_as_a_recording(folder, content):
    """A file that is no .npz is refused when the policy is made."""
    (folder / "any.npz").write_bytes(content)
    with suppress(InputError):
        Replay(TOY, str(folder / "any.npz"))


def test_a_recording_comes_back(tmp_path):
    """In either form, also without a step."""
    for steps in (0, 3):
        actions = np.arange(2.0 * steps, dtype=np.float32).reshape(steps, 2)
        np.savez_compressed(tmp_path / "a.npz", **{"toy/0/0": actions})
        (tmp_path / "actions/toy/00").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "actions/toy/00/000.npy", actions)
        for path in (tmp_path / "a.npz", tmp_path):
            policy = Replay(TOY, str(path))
            policy.reset(Episode("toy", 0, 0, 0, 40))
            assert np.array_equal(policy._actions["toy/00/000"], actions)


# --- assets


def archive(**members: bytes) -> zipfile.ZipFile:
    """A zip file of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return zipfile.ZipFile(buffer)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "\\x", "..\\x", "a\\..\\..\\x", "C:/x", "C:\\x"])
def test_archives_do_not_write_elsewhere(tmp_path, name):
    """Names that lead out of the folder, in every spelling."""
    with pytest.raises(zipfile.BadZipFile, match="lies elsewhere"):
        check_members(archive(**{"good": b"", name: b"x"}), tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_archives_hold_files(tmp_path, kind):
    """No links, devices, pipes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        member = zipfile.ZipInfo("link")
        member.external_attr = (kind | 0o777) << 16
        content.writestr(member, "/etc/passwd")
    with pytest.raises(zipfile.BadZipFile, match="link"):
        check_members(zipfile.ZipFile(buffer), tmp_path)


def test_archives_have_room(tmp_path):
    """What a header claims must fit the disk; files and folders of any name inside are fine."""
    good = archive(**{"a/b.png": b"x", "a/": b"", "a/..b": b"", "a/b:c": b""})
    check_members(good, tmp_path)
    good.infolist()[0].file_size = 2**60
    with pytest.raises(OSError, match="has room for"):
        check_members(good, tmp_path)


@pytest.mark.parametrize("text", ["[", "[]", "3", '{"files_by_origin": 3}', "[" * 100_000, "{}"])
def test_a_manifest_that_says_nothing(tmp_path, text):
    """Altered pictures would pass for upstream's."""
    (tmp_path / "MANIFEST.json").write_text(text)
    assert "files_by_origin" in refusal(has_altered_visuals, tmp_path)


@pytest.mark.parametrize("text", [
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + "x" * 5000 + '">]><a>' + "&b;" * 20_000 + "</a>",
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a><mesh file="&b;"/></a>', "<a>", "",
    '<?xml version="1.0" encoding="nonsense"?><a/>', f'<a><mesh file="{"x" * 5000}"/></a>', "\0"])
def test_xml_of_a_stranger(tmp_path, text):
    """Entities that grow, entities that read files, encodings that are none: the file is among what is missing."""
    path = tmp_path / "scenes" / "libero_floor_base_style.xml"
    path.parent.mkdir()
    path.write_text(text)
    missing = [name for name in missing_files(tmp_path) if "libero_floor_base_style" in name]
    assert not any("root:" in name for name in missing)
    assert missing or text.startswith("<?xml version=\"1.0\"?>")


def test_init_files_do_not_run(tmp_path):
    """LIBERO's init files are pickles: arrays come out of them and nothing else does."""
    from suites.libero.upstream import _ArrayUnpickler

    good = np.arange(6.0).reshape(2, 3)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert np.array_equal(_ArrayUnpickler(io.BytesIO(as_numpy_1(good, protocol))).load(), good)
        with pytest.raises(pickle.UnpicklingError, match="may not contain"):
            _ArrayUnpickler(io.BytesIO(pickle.dumps(Touch(tmp_path / "CANARY"), protocol))).load()
    for name in (b"os\nsystem", b"builtins\neval", b"numpy\nload", b"numpy\ndtype.__class__", b"_codecs\nlookup"):
        with pytest.raises(pickle.UnpicklingError):
            _ArrayUnpickler(io.BytesIO(b"c" + name + b"\n.")).load()
    assert os.listdir(tmp_path) == []


def as_numpy_1(array: np.ndarray, protocol: int) -> bytes:
    """The array's pickle with the module's name of numpy 1, as the init files have it."""
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    content = pickle.dumps(array, protocol)
    if protocol >= 4:  # names carry their length, and frames theirs
        content = pickle.dumps(array, 2)
    return content.replace(new, old)


@given(value=values)
@tries(50)
def test_any_manifest(folder, value):
    """A manifest of any content."""
    (folder / "MANIFEST.json").write_text(json.dumps({"files_by_origin": value}))
    with suppress(InputError):
        assert has_altered_visuals(folder) in (True, False)
