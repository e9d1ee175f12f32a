"""Layout: who imports whom, and that the tree holds nothing of the machine it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import baselines
import suites
from evalkit.assets import resolve_assets
from evalkit.paths import PROJECT
from evalkit.policy import Policy
from evalkit.registry import load_object, load_suite, suite_names

#: Not ours, or made by a run: folders that are not searched.
SKIPPED = {".git", ".venv", "runs", "__pycache__", ".pytest_cache", ".ruff_cache", "build"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, also inside functions; relative ones made absolute."""
    found = set()
    package = path.relative_to(PROJECT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) - node.level + 1]] if node.level else []
            found |= {".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names}
    return found


def packages(path: Path) -> set[str]:
    """Top-level packages of `imports`."""
    return {name.partition(".")[0] for name in imports(path)}


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (PROJECT / folder).rglob("*.py") if not SKIPPED & set(path.parts))


def test_importing_evalkit_is_light():
    """`import evalkit`, the command line and every policy's module load no Ray, no torch and no simulator."""
    heavy = {"ray", "torch", "mujoco", "robosuite", "libero", "robocasa"}
    code = ("import sys, evalkit, evalkit.cli, evalkit.evaluation, evalkit.tables\nfrom evalkit import registry\n"
            "[registry.policy_summary(name) for name in registry.policy_names()]\n"
            "[registry.load_suite(name) for name in registry.suite_names()]\n"
            f"print(*sorted({heavy!r} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_only_cluster_imports_ray():
    """One file knows the engine."""
    assert [path.name for path in sources("evalkit") if "ray" in packages(path)] == ["cluster.py"]
    assert not any("ray" in packages(path) for folder in ("suites", "baselines") for path in sources(folder))


def test_evalkit_reaches_suites_and_baselines_by_name_only():
    """No file of evalkit imports a suite or a policy, a simulator or torch."""
    forbidden = {"suites", "baselines", "tests", "torch", "robosuite", "libero", "robocasa"}
    assert {path.name: packages(path) & forbidden for path in sources("evalkit") if packages(path) & forbidden} == {}


def test_suites_and_baselines_do_not_import_each_other():
    """A suite's folder imports itself and evalkit, a policy's folder the same (and baselines/common, what native
    policies share; suites/common likewise): never another, nor the other kind."""
    ours = {"suites", "baselines", "tests", "benchmarks"}
    for kind in ("suites", "baselines"):
        for path in sources(kind):
            own = path.relative_to(PROJECT / kind).parts[0]
            others = {name for name in imports(path) if name.partition(".")[0] in ours
                      and name.split(".")[:2] not in ([kind, own], ["suites", "common"], ["baselines", "common"])}
            assert not others, f"{path.relative_to(PROJECT)} imports {sorted(others)}"


def test_evalkit_has_no_import_cycle():
    """Each file of evalkit imports only files that stand before it in some order."""
    waiting = {path.stem: {name.split(".")[1] for name in imports(path) if name.startswith("evalkit.")}
               for path in sources("evalkit") if path.stem != "__init__"}
    waiting = {name: needed & set(waiting) for name, needed in waiting.items()}
    while waiting:
        free = [name for name, needed in waiting.items() if not needed & set(waiting)]
        assert free, f"these import each other: {sorted(waiting)}"
        waiting = {name: needed for name, needed in waiting.items() if name not in free}


def test_every_registered_policy_loads():
    """Each line of baselines/__init__.py names a Policy."""
    assert all(issubclass(load_object(path), Policy) for path in baselines.POLICIES.values())


def test_every_registered_suite_loads():
    """Each line of suites/__init__.py names a suite whose Env class and requirements are there; groups name suites."""
    for name in suite_names():
        suite = load_suite(name)
        module, _, kind = suite.env.partition(":")
        tree = ast.parse((PROJECT / f"{module.replace('.', '/')}.py").read_text())
        assert kind in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        assert bool(suite.interpreter) == (suite.requirements is not None and suite.requirements.is_file())
        assert not suite.assets or callable(load_object(suite.assets))
    assert {member for group in suites.GROUPS.values() for member in group} <= set(suite_names())
    assert not set(suites.GROUPS) & set(suite_names())


def test_a_suite_without_assets_needs_none():
    """The toy suite runs whatever --assets says."""
    assert all(resolve_assets(load_suite("toy"), choice, [0], None) is None for choice in ("real", "stand-in", "auto"))


def test_no_path_of_this_machine():
    """No file names the checkout or anybody's home folder: the tree works wherever it is cloned."""
    machine = re.compile(rf"{re.escape(str(PROJECT))}\b|/(home|Users|root)/\w")
    found = []
    for path in PROJECT.rglob("*"):
        parts = path.relative_to(PROJECT).parts
        if path.is_file() and not SKIPPED & set(parts) and not any(part.endswith(".egg-info") for part in parts):
            match = machine.search(path.read_bytes().decode("utf-8", "ignore"))
            found += [f"{path.relative_to(PROJECT)}: {match[0]}"] if match else []
    assert found == []
