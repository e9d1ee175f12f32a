"""Nodes: what a machine of a cluster must have; several real ones are in test_end_to_end_nodes.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit import cluster, nodes
from evalkit.assets import tree_digest
from evalkit.environments import Environment, environment_of, find_environment
from evalkit.errors import InputError
from evalkit.nodes import prepare, prepare_this
from tests.helpers import environment


def assets(folder: Path, text: str = "a mesh") -> Path:
    folder.mkdir()
    (folder / "mesh.obj").write_text(text)
    return folder


def test_the_same_files_are_accepted(tmp_path):
    """Folders of the driver's content pass; so does a node that needs no environment."""
    folder = assets(tmp_path / "assets")
    prepare_this(None, {folder: tree_digest(assets(tmp_path / "driver"))})


def test_other_files_are_refused(tmp_path):
    """One byte that differs would make records depend on the node."""
    digest = tree_digest(assets(tmp_path / "driver"))
    with pytest.raises(InputError, match="holds other files than on the driver's machine"):
        prepare_this(None, {assets(tmp_path / "assets", "a mash"): digest})
    with pytest.raises(InputError, match="copy them to the same paths"):
        prepare_this(None, {tmp_path / "nowhere": digest})


def test_a_cluster_of_one_needs_nothing(monkeypatch):
    """On a single node nothing is compared or built, and the driver's folders and interpreter go to its actors."""
    monkeypatch.setattr(cluster, "nodes", lambda: [{"CPU": 2.0}])
    monkeypatch.setattr(cluster, "on_each_node", lambda *_, **__: pytest.fail("asked the nodes"))
    monkeypatch.setenv("EVALKIT_CACHE", "here")
    prepare(Path("python"), Path("nowhere"))
    described = cluster.runtime(Path("python"), {})
    assert described["py_executable"] == "python" and described["env_vars"]["EVALKIT_CACHE"] == "here"


def test_nodes_of_several_find_their_own_interpreter(monkeypatch, tmp_path):
    """Every node is asked with the digests of code and assets, and starts workers by the environment's name; it keeps
    its own cache folder."""
    monkeypatch.setattr(cluster, "nodes", lambda: [{"CPU": 2.0}, {"CPU": 2.0}])
    asked = []
    monkeypatch.setattr(cluster, "on_each_node", lambda *arguments, gpus: asked.append((*arguments, gpus)))
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    built = Environment("libero", find_environment("libero").requirements)
    built.python.parent.mkdir(parents=True)
    (built.folder / "evalkit.json").write_text(json.dumps({"name": "libero"}))
    assert environment_of(built.python) == built

    prepare(built.python, assets(tmp_path / "assets"), gpus=1)
    (function, name, digests, gpus), = asked
    assert (function, name, gpus) == (nodes.prepare_this, "libero", 1)
    assert {path.name for path in digests} == {"evalkit", "suites", "baselines", "assets"}
    described = cluster.runtime(built.python, {})
    assert described["py_executable"] == f"{sys.executable} -m evalkit.environments libero"
    assert "EVALKIT_CACHE" not in described["env_vars"]


def test_a_worker_becomes_the_interpreter_of_its_node(tmp_path):
    """`python -m evalkit.environments libero ...` goes on as the Python in the cache of the machine that runs it."""
    built = subprocess.run([sys.executable, "-c", "from evalkit.environments import find_environment as f; "
                            "print(f('libero').folder)"], env=environment(EVALKIT_CACHE=str(tmp_path)),
                           capture_output=True, text=True, check=True).stdout.strip()
    python = Path(built) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0" "$@"\n')
    python.chmod(0o755)
    (Path(built) / "evalkit.json").write_text("{}")
    done = subprocess.run([sys.executable, "-m", "evalkit.environments", "libero", "worker.py", "--a b"],
                          env=environment(EVALKIT_CACHE=str(tmp_path)), capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == f"{python} worker.py --a b" and done.stderr == ""
