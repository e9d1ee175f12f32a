"""Doctor: what works on this machine, and how to mend what does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from evalkit.environments import find_environment, python_version, ray_version, suite_environments
from evalkit.paths import PROJECT, cache_folder

#: Debian's packages for EGL with software rendering; PyOpenGL needs libgl1 for glGetError.
GL_PACKAGES = ("libegl1", "libgl1", "libgl1-mesa-dri")


def check(fix: bool) -> bool:
    """Print one line a finding; True if everything that was checked works. `fix` may install the GL library."""
    print(f"python {python_version()}, ray {ray_version()}, {os.cpu_count()} cores, cache {cache_folder()}")
    results = []
    for name in suite_environments():
        environment = find_environment(name)
        if not environment.ready:
            print(f"environment {name}: not built (evalkit env create {name})")
            continue
        works, finding = rendering(environment.python)
        if not works and fix and install_gl():
            works, finding = rendering(environment.python)
        print(f"environment {name}: {finding}")
        results.append(works)
    return all(results)


def rendering(python: Path) -> tuple[bool, str]:
    """(works, finding): what `evalkit.gl.choose_gl` finds in the interpreter `python`."""
    code = "from evalkit.gl import choose_gl; print(choose_gl())"
    done = subprocess.run([str(python), "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return True, f"renders with {done.stdout.strip()}"
    return False, "cannot render, so only policies without cameras will run.\n" + \
        "\n".join(done.stderr.strip().splitlines()[-4:])


def install_gl() -> bool:
    """Install `GL_PACKAGES` where that is possible without a prompt (root, or sudo without a password)."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (prefix and shutil.which("sudo") is None):
        return False
    print(f"installing {' '.join(GL_PACKAGES)} (needed to render)", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *GL_PACKAGES]):
        done = subprocess.run([*prefix, "apt-get", "-q", *arguments], stdin=subprocess.DEVNULL, env=environment,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return False
    return True
