"""robosuite 1.5, imported without its notices and, where nothing is drawn, without OpenGL."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def quiet_robosuite(draws: bool) -> None:
    """Load robosuite.macros before robosuite, with console notices off; must come before any robosuite import.

    draws: whether this process renders; otherwise robosuite must not replace MUJOCO_GL=disable by egl.
    """
    if "robosuite.macros" in sys.modules:
        return
    root = Path(importlib.util.find_spec("robosuite").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("robosuite.macros", root / "macros.py")
    macros = importlib.util.module_from_spec(spec)
    sys.modules["robosuite.macros"] = macros
    source = (root / "macros.py").read_text().split("# Override with macros from macros_private.py")[0]
    exec(compile(source, str(root / "macros.py"), "exec"), macros.__dict__)  # the rest imports robosuite, which warns
    macros.CONSOLE_LOGGING_LEVEL = "ERROR"
    macros.FILE_LOGGING_LEVEL = None
    macros.MUJOCO_GPU_RENDERING = draws
