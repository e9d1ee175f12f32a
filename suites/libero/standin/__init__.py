"""Stand-in assets for LIBERO: our own objects, furniture and rooms, on which upstream's task code runs.

    python -m suites.libero.standin DIRECTORY

They let the suites run where upstream's assets cannot be had. Names, joints and sites are upstream's,
sizes, masses and resting heights are close to it, so init states mean the same and tasks can be solved;
pictures are simplified. Results made with them are never comparable with published numbers. All is made by
the code in this folder, with numpy and Pillow alone; importing the package loads neither.
"""

from pathlib import Path

#: Raise it whenever a generated file changes: it tells results made with different stand-ins apart.
VERSION = "1"


def generate(target: Path) -> None:
    """Write the whole tree, in upstream's layout, into the directory `target` (created if absent).

    The same version writes the same bytes every time. Raises FileExistsError if `target` has anything in it.
    """
    from suites.libero.standin.fixtures import FIXTURES
    from suites.libero.standin.mjcf import object_xml
    from suites.libero.standin.objects import THINGS
    from suites.libero.standin.scenes import scenes
    from suites.libero.standin.textures import write_textures

    target = Path(target)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty: give a new or an empty directory")
    write_textures(target / "textures")
    for name, thing in THINGS.items():
        path = target / thing.folder / name / f"{name}.xml"
        _write(path, object_xml(name, thing.body, thing.placing, textures="../../textures"))
    for name, thing in FIXTURES.items():
        path = target / thing.folder / f"{name}.xml"
        _write(path, object_xml(name, thing.body, thing.placing, textures="../textures"))
    for name, content in scenes().items():
        _write(target / "scenes" / name, content)


def uncovered_tasks() -> dict[str, tuple[int, ...]]:
    """Suite -> indices of tasks that name something without a stand-in; suites covered whole are absent.

    Empty: the 130 tasks of all five suites name only what is here (a test reads their definitions).
    """
    return {}


def _write(path: Path, content: str) -> None:
    """Write a text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="\n")
