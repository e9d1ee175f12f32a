"""Upstream's source: a checkout of the user's, or a clone, checked against the commit that results are made with.

The package is not on PyPI and runs unmodified. `upstream_files.csv` names its files with their Git blob ids: the rows
of ``git ls-tree -r <commit>`` that end in .py, .xml or .yaml, and the licences. Nothing of upstream's is kept here.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from filelock import FileLock

from evalkit.errors import InputError
from evalkit.paths import cache_folder
from suites.robocasa_gr1.standin import ASSETS
from suites.robocasa_gr1.standin.inventory import has_any

VARIABLE = "EVALKIT_ROBOCASA_SRC"

#: The repository and the commit of 2025-08-09, its newest when the protocol was fixed.
URL = "https://github.com/robocasa/robocasa-gr1-tabletop-tasks.git"
COMMIT = "4840e671596f93ca03651524b9f72ffb1aadfeff"

#: What a user types to get it.
CLONE_COMMAND = (f"git clone {URL} robocasa-gr1-tabletop-tasks && "
                 f"git -C robocasa-gr1-tabletop-tasks checkout {COMMIT}")

#: Seconds until an unreachable server is given up, and until a clone (a few MB) is.
PROBE_SECONDS, CLONE_SECONDS = 5, 300

#: Versions that upstream's package asserts when it is imported (robocasa/__init__.py).
VERSIONS = {
    "robosuite": ("1.5.0", "1.5.1"),
    "mujoco": ("3.2.6",),
    "numpy": ("1.23.2", "1.23.3", "1.23.5", "1.26.4"),
}

#: The folder that upstream's download of fixtures is unpacked over.
FIXTURES = "robocasa/models/assets/fixtures/"


def find() -> Path | None:
    """The checkout that EVALKIT_ROBOCASA_SRC names, else the clone in the cache, else None.

    Raises InputError when what the variable names is not upstream's code at the commit.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return check(Path(named), f"{VARIABLE}={named}", filled=has_any(Path(named) / ASSETS))
    return cloned_folder() if cloned_folder().is_dir() else None


def get(url: str | None = None) -> Path:
    """The checkout that `find` finds, else a clone of `url` (None: URL). Raises InputError where neither works."""
    return find() or clone(url)


def cloned_folder() -> Path:
    """Where the clone is kept."""
    return cache_folder() / "robocasa_gr1" / f"source-{COMMIT[:8]}"


def is_reachable(url: str | None = None) -> bool:
    """Whether the repository answers within a few seconds."""
    try:
        return _git("ls-remote", "--quiet", url or URL, "HEAD", seconds=PROBE_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):  # no git, no answer
        return False


def clone(url: str | None = None) -> Path:
    """Clone `url` (None: URL) into the cache, at the commit. Raises InputError, with the ways out, if it fails."""
    folder, url = cloned_folder(), url or URL
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            print(f"cloning {url} to {folder}", file=sys.stderr)
            _clone(url, partial)
            check(partial, f"the clone of {url}")
            partial.rename(folder)
    return folder


def _clone(url: str, folder: Path) -> None:
    try:
        done = _git("clone", "--quiet", "--no-checkout", url, str(folder), seconds=CLONE_SECONDS)
        if done.returncode == 0:
            done = _git("-C", str(folder), "checkout", "--quiet", "--detach", COMMIT, seconds=CLONE_SECONDS)
        if done.returncode != 0:
            raise unavailable(f"git could not clone {url} at {COMMIT[:8]}: {done.stderr.strip()}")
    except FileNotFoundError as error:
        raise unavailable("git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise unavailable(f"{url} gave no complete clone in {CLONE_SECONDS} s") from error


def _git(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run git, which must not ask for a password nor change line ends."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(["git", "-c", "core.autocrlf=false", *arguments], capture_output=True, text=True, check=False,
                          timeout=seconds, env=environment, stdin=subprocess.DEVNULL)


def unavailable(reason: str) -> InputError:
    """The error for a machine on which upstream's code cannot be had."""
    return InputError(
        f"RoboCasa-GR1's upstream code cannot be had: {reason}.\n"
        f"Ways out: get it where the network allows and set {VARIABLE} to the checkout:\n  {CLONE_COMMAND}\n"
        "or pass --scenes builtin: scenes of evalkit's own, not comparable with published results.")


@cache
def pinned_files() -> dict[str, str]:
    """Path -> Git blob id of upstream's files at the commit."""
    with (Path(__file__).parent / "upstream_files.csv").open(newline="") as file:
        return {row["path"]: row["blob"] for row in csv.DictReader(file)}


def blob_id(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def differences(folder: Path) -> dict[str, str]:
    """Pinned path -> ``missing`` or ``differs``, for the files of `folder` that are not as in the commit."""
    found = {}
    for path, blob in pinned_files().items():
        file = folder / path
        if not file.is_file():
            found[path] = "missing"
        elif blob_id(file.read_bytes()) != blob:
            found[path] = "differs"
    return found


def check(folder: Path, origin: str, filled: bool = False) -> Path:
    """`folder`, resolved, if it holds upstream's code as it is in the commit.

    filled: real assets lie in it. Then fixture files may differ, because upstream's own download is unpacked over
    them; one notice line says so. Raises InputError that names the files and, for a Git repository, its commit.
    """
    if not (folder / "robocasa" / "__init__.py").is_file():
        hint = f" Did you mean its parent folder, {folder.parent}?" if (folder / "models" / "assets").is_dir() else ""
        raise InputError(f"{origin} is not a checkout of robocasa-gr1-tabletop-tasks: no robocasa/__init__.py in it."
                         f"{hint}\nA checkout is made by:\n  {CLONE_COMMAND}")
    wrong = differences(folder)
    tolerated = {path for path, how in wrong.items() if filled and how == "differs" and path.startswith(FIXTURES)}
    if len(wrong) > len(tolerated):
        listed = [f"  {path} ({how})" for path, how in wrong.items() if path not in tolerated]
        more = [f"  ... and {len(listed) - 8} more"] if len(listed) > 8 else []
        raise InputError(f"{origin} is not upstream's code at commit {COMMIT[:8]}{_found_commit(folder)}:\n"
                         + "\n".join(listed[:8] + more)
                         + f"\nRestore it with: git -C {folder} checkout {COMMIT} -- .\nor get a fresh checkout:\n  "
                         + CLONE_COMMAND)
    if tolerated:
        _announce_replaced(folder, len(tolerated), min(tolerated))
    return folder.resolve()


@cache  # once for all checks of a run
def _announce_replaced(folder: Path, count: int, example: str) -> None:
    print(f"notice: {count} fixture files in {folder} are not those of commit {COMMIT[:8]}, for example {example}: "
          "upstream's asset download may replace them", file=sys.stderr)


def _found_commit(folder: Path) -> str:
    """`` (found: commit ...)`` for a Git repository, else nothing."""
    if not (folder / ".git").exists():
        return ""
    try:
        done = _git("-C", str(folder), "rev-parse", "HEAD", seconds=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f" (found: commit {done.stdout.strip()[:8]})" if done.returncode == 0 else ""


def copy(source: Path, target: Path) -> None:
    """Copy the pinned files, and nothing else, from the checkout `source` to the new folder `target`.

    Raises InputError when one of them is not as in the commit.
    """
    check(source, f"the checkout {source}")
    for path in pinned_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)


def check_interpreter(python: Path) -> None:
    """Raise InputError unless the interpreter `python` has the versions that upstream's package asserts."""
    code = ("import importlib.metadata as m, json\n"
            "def version(name):\n    try: return m.version(name)\n    except m.PackageNotFoundError: return None\n"
            f"print(json.dumps({{name: version(name) for name in {list(VERSIONS)}}}))")
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"the interpreter {python} does not run: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout)
    wrong = [f"  {name}: found {found[name] or 'none'}, allowed {' or '.join(allowed)}"
             for name, allowed in VERSIONS.items() if found[name] not in allowed]
    if wrong:
        raise InputError(f"upstream's RoboCasa-GR1 code refuses the packages of {python}:\n" + "\n".join(wrong)
                         + "\nBuild the suite's environment anew: evalkit env remove robocasa_gr1, then evalkit env "
                         "create robocasa_gr1")
