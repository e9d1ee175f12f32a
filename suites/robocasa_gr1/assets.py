"""RoboCasa-GR1's scenes and assets: upstream's code with real assets or stand-ins, or the built-in scenes.

The folder of upstream scenes is a checkout of upstream's repository with its asset tree filled, ready for sys.path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from filelock import FileLock

from evalkit.assets import BUILT_IN, REAL, STAND_IN, Assets, tree_digest
from evalkit.errors import InputError, unknown
from evalkit.paths import PROJECT, cache_folder
from evalkit.suite import Suite
from suites.robocasa_gr1 import checkout, standin
from suites.robocasa_gr1.standin import inventory

SCENES = ("upstream", "builtin", "auto")

#: The built-in scenes: their code is their asset folder.
BUILT_IN_FOLDER = Path(__file__).parent / "builtin"

#: The dataset and revision that upstream's script downloads (robocasa/scripts/download_groot_assets.py).
HUB_DATASET = "nvidia/PhysicalAI-DigitalCousin-Assets"
HUB_REVISION = "1b018839a6da865dffecd3185fe054211bc71270"

#: Upstream's own figure for everything (robocasa/scripts/download_kitchen_assets.py).
DOWNLOAD_SIZE = "about 5 GB"

#: What completes a checkout that was filled in part: upstream's own script.
UPSTREAM_DOWNLOAD = "python robocasa/scripts/download_tabletop_assets.py -y"

#: Temporary files that upstream writes beside the models it loads (models/objects/objects.py).
TEMPORARY = re.compile(r"\d+_\d+_\d+\.xml")

#: The digest of a generated tree, beside it: hashing the tree costs more than reading this.
DIGEST_FILE = "stand-in-digest.txt"

#: Bytes of one file that is downloaded, at most; upstream's files together have a third of it.
LONGEST_DOWNLOAD = 16 * 2**30

#: Seconds without a byte after which a download is given up.
STALL_SECONDS = 30


@dataclass(frozen=True)
class Archive:
    """A zip file of upstream's assets. folder: where it is unpacked, below the asset tree. url: "" for the hub's."""

    name: str
    folder: str
    url: str = ""


#: What the 24 tasks need of upstream's downloads (download_kitchen_assets.py, download_groot_assets.py); its
#: AI-generated objects and textures are not among them.
ARCHIVES = (
    Archive("textures", "", "https://utexas.box.com/shared/static/otdsyfjontk17jdp24bkhy2hgalofbh4.zip"),
    Archive("fixtures", "", "https://utexas.box.com/shared/static/pobhbsjyacahg2mx8x4rm5fkz3wlmyzp.zip"),
    Archive("objaverse", "objects", "https://utexas.box.com/shared/static/ejt1kc2v5vhae1rl4k5697i4xvpbjcox.zip"),
    Archive("sketchfab", "objects"),
    Archive("lightwheel", "objects"),
)


def resolve(suite: Suite, choice: str, scenes: str, tasks: list[int], python: Path | None) -> Assets:
    """See `evalkit.assets.resolve_assets`. scenes: ``upstream``, ``builtin``, or ``auto``: upstream's if they can be
    had, else the built-in ones with one notice line.

    A checkout named by EVALKIT_ROBOCASA_SRC or by path is never replaced, and written to by upstream's code alone.
    """
    if scenes not in SCENES:
        raise unknown("scenes", scenes, SCENES)
    named = choice not in ("real", "stand-in", "auto")
    if scenes == "auto" and not named and not upstream_can_be_had():
        _announce_built_in()
    elif scenes != "builtin":
        if python is not None:
            checkout.check_interpreter(python)
        return named_folder(choice) if named else upstream(choice, python)
    return built_in()


def upstream(choice: str, python: Path | None) -> Assets:
    """Upstream's code with the assets that `choice` means: auto takes real ones where they are, and never downloads."""
    source = checkout.get()
    if choice == "stand-in":
        return stand_in(source, python)
    if inventory.has_any(source / standin.ASSETS):
        return given(source, f"{checkout.VARIABLE}={source}")
    if downloaded_folder().is_dir():
        return given(downloaded_folder(), f"the download in {downloaded_folder()}")
    if choice == "auto":
        _announce_stand_ins()
        return stand_in(source, python)
    return download(source)


def named_folder(choice: str) -> Assets:
    """The filled checkout at the path `choice`."""
    if not Path(choice).is_dir():
        raise unknown("--assets choice", choice, ["real", "stand-in", "auto", "an existing folder"])
    return given(Path(choice), f"--assets {choice}")


def built_in() -> Assets:
    """The built-in scenes."""
    return Assets(BUILT_IN, BUILT_IN_FOLDER, tree_digest(BUILT_IN_FOLDER))


def local(suite: Suite, python: Path | None) -> Assets:
    """See `evalkit.assets.local_assets`: upstream's code with real assets, or with stand-ins that were made before."""
    source = checkout.find()
    if source is not None and inventory.has_any(source / standin.ASSETS):
        return given(source, f"{checkout.VARIABLE}={source}")
    if downloaded_folder().is_dir():
        return given(downloaded_folder(), f"the download in {downloaded_folder()}")
    return stand_in(source, python) if stand_in_folder().is_dir() else built_in()


def upstream_can_be_had() -> bool:
    """Whether upstream's code is here or its server answers. Raises InputError for a wrong EVALKIT_ROBOCASA_SRC."""
    return checkout.find() is not None or checkout.is_reachable()


@cache  # once for all suites of a run
def _announce_built_in() -> None:
    print(f"notice: RoboCasa-GR1's upstream code cannot be had here (no {checkout.VARIABLE}, no clone, repository not "
          "reachable): using evalkit's BUILT-IN scenes; results are not comparable with published ones",
          file=sys.stderr)


@cache
def _announce_stand_ins() -> None:
    print("notice: RoboCasa-GR1's real assets are not here (none in the checkout, no download): using STAND-IN assets; "
          f"results are not comparable with published ones. `evalkit assets robocasa_gr1` downloads {DOWNLOAD_SIZE}",
          file=sys.stderr)


# --- a filled checkout ----------------------------------------------------------------------------


def given(folder: Path, origin: str) -> Assets:
    """The Assets in a filled checkout, used where it lies.

    Raises InputError unless the code is upstream's, the tree complete for the 24 tasks, and its model folders writable.
    """
    folder = checkout.check(folder, origin, filled=True)
    assets = folder / standin.ASSETS
    problems = inventory.missing(assets)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:8])
        more = f"\n  ... and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise InputError(f"{origin}: the assets in {assets} are not complete; missing:\n{listed}{more}\n"
                         f"Complete them with upstream's own script:\n  cd {folder} && {UPSTREAM_DOWNLOAD}\n"
                         "or pass --assets stand-in to run on generated ones (not comparable with published results).")
    check_writable(assets)
    for shelf in inventory.empty(assets):
        print(f"notice: {shelf.absence} in {assets}; upstream draws it from other registries alone", file=sys.stderr)
    kind = STAND_IN if (assets / standin.MARK).is_file() else REAL
    return Assets(kind, folder, listing_digest(assets))


def check_writable(assets: Path) -> None:
    """Raise InputError unless upstream can write its temporary files beside every model of the inventory."""
    for shelf in inventory.shelves():
        for model in shelf.models(assets):
            if not os.access(model.parent, os.W_OK):
                raise InputError(
                    f"the folder {model.parent} is not writable. Upstream's code writes a temporary XML file beside "
                    "every model it loads, so the asset tree must be writable. Make it so (chmod -R u+w), or copy the "
                    f"checkout to a place where you may write and set {checkout.VARIABLE} to the copy.")


def listing_digest(folder: Path) -> str:
    """Sixteen hex digits of the names and sizes of all files below `folder`; their bytes are 5 GB in the real tree.

    Hidden files, compiled ones and upstream's temporary files are left out.
    """
    lines = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        skipped = any(part[0] == "." or part == "__pycache__" for part in relative.parts)
        if path.is_file() and not skipped and not TEMPORARY.fullmatch(path.name):
            lines.append(f"{relative.as_posix()}\0{path.stat().st_size}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]


# --- stand-ins ------------------------------------------------------------------------------------


def stand_in(source: Path, python: Path | None) -> Assets:
    """A copy of upstream's code with generated assets, made once."""
    folder = stand_in_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _generate(source, folder, python)
    return Assets(STAND_IN, folder, (folder / DIGEST_FILE).read_text().strip())


def stand_in_folder() -> Path:
    """Where stand-ins are kept, under a key of the generator's source and upstream's commit."""
    key = hashlib.sha256(checkout.COMMIT.encode())
    for path in sorted((Path(__file__).parent / "standin").glob("*.py")):
        key.update(path.read_bytes())
    return cache_folder() / "assets" / f"robocasa_gr1-stand-in-{key.hexdigest()[:10]}"


def _generate(source: Path, folder: Path, python: Path | None) -> None:
    """Run the generator in the suite's interpreter, which pins what writes the images."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    checkout.copy(source, partial)
    done = subprocess.run([str(python or sys.executable), "-m", "suites.robocasa_gr1.standin", str(partial)],
                          cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"generating the stand-in assets failed:\n{done.stderr}")
    (partial / DIGEST_FILE).write_text(tree_digest(partial / standin.ASSETS) + "\n")
    partial.rename(folder)


# --- upstream's downloads -------------------------------------------------------------------------


def downloaded_folder() -> Path:
    """Where a copy of upstream's code with downloaded assets is kept."""
    return cache_folder() / "assets" / "robocasa_gr1-real"


def download(source: Path) -> Assets:
    """Upstream's assets, fetched into a copy of its code as upstream's own script does; continues where it stopped.

    Upstream's fixtures are unpacked over the repository's, and replace files that are in both.
    """
    folder = downloaded_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            if not (partial / "robocasa").is_dir():
                checkout.copy(source, partial)
            print(f"downloading RoboCasa-GR1's assets ({DOWNLOAD_SIZE}) from {HUB_DATASET} on the Hugging Face hub and "
                  f"from utexas.box.com to {folder}", file=sys.stderr)
            for archive in ARCHIVES:
                fetch_archive(archive, partial)
            partial.rename(folder)
    return given(folder, f"the download in {folder}")


def fetch_archive(archive: Archive, folder: Path) -> None:
    """Download `archive`, test it, unpack it into the copy of upstream's code in `folder`, and delete it.

    A file ``.<name>.unpacked`` says that it is done. Raises InputError with the ways out if it cannot be had.
    """
    done = folder / f".{archive.name}.unpacked"
    if done.is_file():
        return
    try:
        path = fetch(archive.url, folder / f"{archive.name}.zip") if archive.url else fetch_from_hub(archive, folder)
        with zipfile.ZipFile(path) as content:
            check_members(content, folder)
            damaged = content.testzip()
            if damaged:
                raise zipfile.BadZipFile(f"{damaged} in {path} is damaged")
            content.extractall(folder / standin.ASSETS / archive.folder)
    except zipfile.BadZipFile as error:
        path.unlink()
        raise _not_downloaded(archive, error) from error
    except Exception as error:  # servers and the hub raise many kinds; each is reported with the ways out
        raise _not_downloaded(archive, error) from error
    path.unlink()
    done.touch()


def check_members(content: zipfile.ZipFile, folder: Path) -> None:
    """Raise BadZipFile for a member that is a link or a device, or whose name leads out of the folder of the archive;
    OSError where `folder` has no room for what the members claim to hold (zipfile unpacks no more than that)."""
    for member in content.infolist():
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or \
                kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise zipfile.BadZipFile(f"it would write {member.filename!r}, which is a link or lies elsewhere")
    needed, free = sum(member.file_size for member in content.infolist()), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"unpacked it takes {needed} bytes, and {folder} has room for {free}")


def _not_downloaded(archive: Archive, error: Exception) -> InputError:
    return InputError(
        f"RoboCasa-GR1's {archive.name} assets could not be downloaded from {archive.url or HUB_DATASET}: "
        f"{type(error).__name__}: {error}\n"
        "Ways out: repeat the command (it continues where it stopped; utexas.box.com is not reachable from every "
        f"country); or fill a checkout elsewhere with `{UPSTREAM_DOWNLOAD}` and set {checkout.VARIABLE} to it; or pass "
        "--assets stand-in to run on generated ones (not comparable with published results).")


def fetch_from_hub(archive: Archive, folder: Path) -> Path:
    """The zip file of `archive` from the Hugging Face hub, with the hub's progress bars; resumes where it stopped."""
    from huggingface_hub import snapshot_download

    snapshot_download(HUB_DATASET, repo_type="dataset", revision=HUB_REVISION, local_dir=folder,
                      allow_patterns=[f"{archive.name}.zip"], etag_timeout=10)
    return folder / f"{archive.name}.zip"


def fetch(url: str, path: Path) -> Path:
    """Download `url` to `path` with a progress bar, by way of ``<path>.partial``, which a later call continues.

    Raises OSError when the server cannot be reached, falls silent, or ends before its own count of bytes.
    """
    from tqdm import tqdm

    partial = path.with_name(f"{path.name}.partial")
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the partial file is whole, or not of this file: the zip's test tells
            return partial.rename(path)
        raise
    with response:
        if response.status != 206:
            have = 0  # a server without ranges begins anew
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as file, tqdm(
                desc=path.name, initial=have, total=total, unit="B", unit_scale=True) as bar:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
                if file.tell() > LONGEST_DOWNLOAD:
                    raise OSError(errno.EFBIG, f"{url} sends more than {LONGEST_DOWNLOAD} bytes")
            written = file.tell()
    if total is not None and written != total:
        raise OSError(f"{url} ended after {written} of {total} bytes")
    return partial.rename(path)
