"""LIBERO's assets: found, downloaded from the Hugging Face hub, or generated (stand-ins)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

from filelock import FileLock

from evalkit.assets import ALTERED, REAL, STAND_IN, Assets, tree_digest
from evalkit.errors import InputError, unknown
from evalkit.parsing import parse_json, read_text
from evalkit.paths import PROJECT, cache_folder
from evalkit.suite import Suite

VARIABLE = "EVALKIT_LIBERO_ASSETS"

#: The dataset that hf-libero 0.1.4 downloads (libero/libero/utils/download_utils.py), and its rough size.
HUB_DATASET = "lerobot/libero-assets"
HUB_SIZE = "several hundred MB"

#: Where hf-libero itself keeps a download.
UPSTREAM_DOWNLOAD = Path.home() / ".cache" / "libero" / "assets"

#: The XML files that upstream's 130 tasks load; the meshes they name are checked through them.
XML_FILES = {
    "articulated_objects": ("flat_stove", "microwave", "white_cabinet", "wooden_cabinet"),
    "scenes": ("libero_floor_base_style", "libero_kitchen_tabletop_base_style",
               "libero_living_room_tabletop_base_style", "libero_study_base_style", "libero_tabletop_base_style"),
    "stable_hope_objects": ("alphabet_soup", "bbq_sauce", "butter", "chocolate_pudding", "cookies", "cream_cheese",
                            "ketchup", "milk", "new_salad_dressing", "orange_juice", "salad_dressing",
                            "tomato_sauce"),
    "stable_scanned_objects": ("akita_black_bowl", "basket", "chefmate_8_frypan", "glazed_rim_porcelain_ramekin",
                               "plate", "white_bowl"),
    "turbosquid_objects": ("black_book", "desk_caddy", "moka_pot", "porcelain_mug", "red_coffee_mug",
                           "white_yellow_mug", "wine_bottle", "wine_rack", "wooden_tray", "wooden_two_layer_shelf",
                           "yellow_book"),
}

#: Folders whose files are named after themselves rather than lying in a folder of their own.
FLAT = ("articulated_objects", "scenes")


def resolve(suite: Suite, choice: str, scenes: str, tasks: list[int], python: Path) -> Assets:
    """See `evalkit.assets.resolve_assets`. A folder given by path or by EVALKIT_LIBERO_ASSETS is never replaced."""
    if choice == "stand-in":
        return stand_in(suite, tasks, python)
    if choice in ("real", "auto"):
        return found() or (download() if choice == "real" else download_or_stand_in(suite, tasks, python))
    if Path(choice).is_dir():
        return given(Path(choice), f"--assets {choice}")
    raise unknown("--assets choice", choice, ["real", "stand-in", "auto", "an existing folder"])


def found() -> Assets | None:
    """Real assets on this machine: those that EVALKIT_LIBERO_ASSETS names, or an earlier download."""
    named = os.environ.get(VARIABLE)
    if named:
        return given(Path(named), f"{VARIABLE}={named}")
    for downloaded in (asset_root(downloaded_folder()), UPSTREAM_DOWNLOAD):
        if is_complete(downloaded):
            return given(downloaded, f"the download in {downloaded}")
    return None


def local(suite: Suite, python: Path) -> Assets:
    """See `evalkit.assets.local_assets`."""
    return found() or stand_in(suite, [], python)


def given(folder: Path, origin: str) -> Assets:
    """The Assets in `folder`. Raises InputError, naming what is missing, unless it is complete."""
    problems = missing_files(folder)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:8])
        more = f"\n  ... and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise InputError(f"{origin} is not a complete LIBERO asset folder; missing:\n{listed}{more}\n"
                         "Expected the folder that holds articulated_objects/, scenes/, stable_hope_objects/ ... "
                         "Unset it to download the assets, or pass --assets stand-in.")
    folder = folder.resolve()
    return Assets(ALTERED if has_altered_visuals(folder) else REAL, folder, tree_digest(folder))


def missing_files(folder: Path) -> list[str]:
    """XML and mesh files that the tasks load and that `folder` lacks, as relative paths.

    Textures are left out: upstream's XML also names some that its code replaces before loading.
    """
    missing = []
    for group, names in XML_FILES.items():
        for name in names:
            path = folder / group / f"{name}.xml" if group in FLAT else folder / group / name / f"{name}.xml"
            if not path.is_file():
                missing.append(str(path.relative_to(folder)))
                continue
            missing += [f"{reference} (named by {path.relative_to(folder)})" for reference in _references(path)
                        if not os.path.isfile(path.parent / reference)]
    return missing


def _references(path: Path) -> list[str]:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: encodings that are none
        return [f"a readable XML ({error})"]
    return [element.get("file") for element in root.iter("mesh") if element.get("file")]


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds every file that the tasks load."""
    return folder.is_dir() and not missing_files(folder)


def has_altered_visuals(folder: Path) -> bool:
    """Whether a MANIFEST.json in `folder` says that some files are not upstream's own bytes."""
    manifest = folder / "MANIFEST.json"
    if not manifest.is_file():
        return False
    try:
        origins = parse_json(read_text(manifest))["files_by_origin"]
        if not isinstance(origins, dict):
            raise TypeError(f"files_by_origin is a {type(origins).__name__}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{manifest} does not say which files are upstream's (files_by_origin): {error}. Remove it "
                         "only if all of them are") from error
    return any(origin != "upstream" for origin in origins)


def downloaded_folder() -> Path:
    """Where the hub's copy is kept."""
    return cache_folder() / "assets" / "libero-real"


def download() -> Assets:
    """The assets from the Hugging Face hub, with the hub's progress bars; resumes where it stopped."""
    from huggingface_hub import snapshot_download

    folder = downloaded_folder()
    print(f"downloading LIBERO's assets ({HUB_SIZE}) from the Hugging Face hub dataset {HUB_DATASET} to {folder}",
          file=sys.stderr)
    try:
        snapshot_download(HUB_DATASET, repo_type="dataset", local_dir=folder, etag_timeout=10)
    except Exception as error:  # the hub raises many kinds; each is reported with the ways out
        raise InputError(
            f"LIBERO's assets could not be downloaded from {HUB_DATASET}: {type(error).__name__}: {error}\n"
            f"Ways out: set {VARIABLE} to a folder that holds them (articulated_objects/, scenes/, ...), or pass "
            "--assets stand-in to run on generated ones (not comparable with published results).") from error
    return given(asset_root(folder), f"the download in {folder}")


def asset_root(folder: Path) -> Path:
    """The folder in the download that holds scenes/: the top, or an ``assets`` folder in it."""
    return next((path for path in (folder, folder / "assets") if (path / "scenes").is_dir()), folder)


@cache
def hub_is_reachable() -> bool:
    """Whether the hub answers within a few seconds."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(HUB_DATASET, timeout=5)
    except Exception:  # any failure means the same here: no download
        return False
    return True


def download_or_stand_in(suite: Suite, tasks: list[int], python: Path) -> Assets:
    """The hub's assets if it can be reached, else stand-ins, with one line that says so."""
    if hub_is_reachable():
        return download()
    _announce_stand_ins()
    return stand_in(suite, tasks, python)


@cache  # once for all suites of a run
def _announce_stand_ins() -> None:
    print(f"notice: LIBERO's real assets cannot be had here (no {VARIABLE}, no download, hub not reachable): using "
          "STAND-IN assets; results are not comparable with published ones", file=sys.stderr)


def stand_in(suite: Suite, tasks: list[int], python: Path) -> Assets:
    """Generated assets, made once. Raises InputError for tasks that they do not cover."""
    from suites.libero import standin

    refused = sorted(set(tasks) & set(standin.uncovered_tasks().get(suite.name, ())))
    if refused:
        raise InputError(f"stand-in assets do not cover tasks {', '.join(map(str, refused))} of {suite.name}; leave "
                         "them out with --tasks, or use --assets real")
    folder = stand_in_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _generate(folder, python)
    return Assets(STAND_IN, folder, tree_digest(folder))


def stand_in_folder() -> Path:
    """Where stand-ins are kept, under a key of the generator's source."""
    source = b"".join(path.read_bytes() for path in sorted((Path(__file__).parent / "standin").glob("*.py")))
    return cache_folder() / "assets" / f"libero-stand-in-{hashlib.sha256(source).hexdigest()[:10]}"


def _generate(folder: Path, python: Path) -> None:
    """Run the generator in the suite's interpreter, which pins what writes the images."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run([str(python), "-m", "suites.libero.standin", str(partial)], cwd=PROJECT,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"generating the stand-in assets failed:\n{done.stderr}")
    partial.rename(folder)
