"""RoboCasa-GR1's assets: upstream's code found and checked, downloads that continue, errors that say what to do.

A small Git repository of files with upstream's names stands for upstream; no test reaches the internet.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import pytest

from evalkit.assets import BUILT_IN, REAL, STAND_IN
from evalkit.errors import InputError
from evalkit.registry import load_object
from suites.robocasa_gr1 import assets, checkout, standin
from suites.robocasa_gr1.standin import inventory

FIXTURE = f"{checkout.FIXTURES}microwaves/gray/model.xml"
FILES = {
    "LICENSE": "a licence\n",
    "robocasa/__init__.py": "import os\n",
    "robocasa/models/scenes.py": "SCENES = ()\n",
    "robocasa/models/assets/scenes/tabletop.yaml": "room: 1\n",
    **{f"{checkout.FIXTURES}{name}/model.xml":
       '<mujoco><asset><mesh file="visuals/a.obj"/><texture file="visuals/a.png"/></asset></mujoco>\n'
       for name in inventory.FIXTURES},
}
MODEL = '<mujoco><asset><mesh file="visual.obj"/></asset></mujoco>\n'
VERSIONS = {"robosuite": "1.5.1", "mujoco": "3.2.6", "numpy": "1.26.4"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *names, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path) -> Path:
    """An empty cache, no variable set, nothing announced yet, and the files of FILES pinned."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(checkout.VARIABLE, raising=False)
    pins = {path: checkout.blob_id(content.encode()) for path, content in FILES.items()}
    monkeypatch.setattr(checkout, "pinned_files", lambda: pins)
    monkeypatch.setattr(checkout, "URL", (tmp_path / "nowhere.git").as_uri())
    for announced in (assets._announce_built_in, assets._announce_stand_ins, checkout._announce_replaced):
        announced.cache_clear()
    return tmp_path


@pytest.fixture
def source(tmp_path) -> Path:
    """A checkout without Git."""
    return write(tmp_path / "checkout", FILES)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A Git repository whose commit is the pinned one, with another commit after it."""
    folder = write(tmp_path / "repository", FILES)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(checkout, "COMMIT", git(folder, "rev-parse", "HEAD"))
    write(folder, {"robocasa/models/scenes.py": "SCENES = (1,)\n"})
    git(folder, "commit", "--quiet", "-am", "second")
    return folder


def fill(folder: Path) -> Path:
    """Make a checkout's asset tree complete for the 24 tasks."""
    tree = folder / standin.ASSETS
    for shelf in inventory.shelves():
        if (shelf.registry, shelf.category) not in inventory.UNRELEASED:
            name = shelf.names[0] if shelf.names else f"{shelf.category}_7"
            write(tree / "objects" / shelf.folder / name, {"model.xml": MODEL, "visual.obj": "v 0 0 0\n"})
    write(tree / "textures", dict.fromkeys(inventory.TEXTURES, "png"))
    for name in inventory.FIXTURES:
        write(tree / "fixtures" / name / "visuals", {"a.obj": "v 0 0 0\n", "a.png": "png"})
    return folder


@pytest.fixture
def python(tmp_path) -> Path:
    """A suite's interpreter: it has the right packages, and its generator writes one file."""
    return interpreter(tmp_path / "python", VERSIONS)


def interpreter(path: Path, versions: dict[str, str | None]) -> Path:
    path.write_text("#!/bin/sh\n"
                    f"if [ \"$1\" = -c ]; then echo '{json.dumps(versions)}'; exit; fi\n"
                    f"mkdir -p \"$3/{standin.ASSETS}/objects\"\n"
                    f"echo generated > \"$3/{standin.ASSETS}/objects/file\"\n"
                    f"echo made >> {path}.calls\n")
    path.chmod(0o755)
    return path


def resolve(choice: str = "real", scenes: str = "upstream", python: Path | None = None):
    return assets.resolve(None, choice, scenes, [], python)


def refusal(*arguments, **options) -> str:
    with pytest.raises(InputError) as caught:
        resolve(*arguments, **options)
    return str(caught.value)


# --- upstream's code ------------------------------------------------------------------------------


def test_the_pins_are_whole(monkeypatch):
    monkeypatch.undo()
    pins = checkout.pinned_files()
    assert len(pins) == 241 and all(len(blob) == 40 for blob in pins.values())
    assert {"LICENSE", "robocasa/__init__.py", FIXTURE} <= pins.keys()
    named = os.environ.get(checkout.VARIABLE)
    if named:
        assert checkout.differences(Path(named)) == {}


def test_blob_id_is_gits(source):
    assert checkout.blob_id(FILES["LICENSE"].encode()) == git(source, "hash-object", "LICENSE")


def test_a_checkout_is_taken_where_it_lies(source, monkeypatch):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    before = sorted(source.rglob("*"))
    assert checkout.get() == source.resolve()
    assert sorted(source.rglob("*")) == before


def test_wrong_files_are_named(source):
    write(source, {"robocasa/__init__.py": "import sys\n", FIXTURE: "<mujoco/>\n"})
    (source / "LICENSE").unlink()
    with pytest.raises(InputError) as caught:
        checkout.check(source, "the folder")
    text = str(caught.value)
    assert "robocasa/__init__.py (differs)" in text and "LICENSE (missing)" in text and f"{FIXTURE} (differs)" in text
    assert "found: commit" not in text


def test_another_commit_is_named(repository):
    found = git(repository, "rev-parse", "HEAD")[:8]
    with pytest.raises(InputError, match=rf"commit {checkout.COMMIT[:8]} \(found: commit {found}\)"):
        checkout.check(repository, "the folder")


def test_downloaded_fixtures_may_replace_the_repositorys(source, capsys):
    """Upstream's own download is unpacked over them; code must still be upstream's."""
    write(source, {FIXTURE: "<mujoco/>\n"})
    assert checkout.check(source, "the folder", filled=True) == source.resolve()
    assert checkout.check(source, "the folder", filled=True) == source.resolve()
    assert capsys.readouterr().err.count(FIXTURE) == 1
    write(source, {"robocasa/models/scenes.py": "SCENES = (2,)\n"})
    with pytest.raises(InputError, match=r"scenes.py \(differs\)"):
        checkout.check(source, "the folder", filled=True)


def test_the_package_folder_is_not_the_checkout(source):
    with pytest.raises(InputError, match="Did you mean its parent folder"):
        checkout.check(source / "robocasa", "the folder")


def test_clone(repository, capsys):
    folder = checkout.get(repository.as_uri())
    assert folder == checkout.cloned_folder() and folder.name == f"source-{checkout.COMMIT[:8]}"
    assert checkout.differences(folder) == {}
    assert "cloning" in capsys.readouterr().err
    assert checkout.get("file:///nowhere") == folder and capsys.readouterr().err == "", "the second call needs no clone"


@pytest.mark.parametrize("url", ["file:///nowhere.git", "http://127.0.0.1:9/robocasa.git"])
def test_a_clone_that_fails_says_the_ways_out(url):
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        checkout.get(url)
    text = str(caught.value)
    assert url in text and checkout.VARIABLE in text and "--scenes builtin" in text and "git clone http" in text
    assert not checkout.cloned_folder().exists()
    assert not checkout.is_reachable(url)
    assert time.monotonic() - start < 20


def test_a_repository_without_the_commit(repository, monkeypatch):
    monkeypatch.setattr(checkout, "COMMIT", "0" * 40)
    with pytest.raises(InputError, match=r"could not clone .* at 00000000"):
        checkout.clone(repository.as_uri())
    assert not checkout.cloned_folder().exists()


def test_reachable(repository):
    assert checkout.is_reachable(repository.as_uri())


def test_interpreter_with_other_versions_is_named(place, python):
    checkout.check_interpreter(python)
    wrong = interpreter(place / "other", {**VERSIONS, "robosuite": "1.5.2", "mujoco": None})
    with pytest.raises(InputError) as caught:
        checkout.check_interpreter(wrong)
    text = str(caught.value)
    assert "robosuite: found 1.5.2, allowed 1.5.0 or 1.5.1" in text and "mujoco: found none" in text
    assert "numpy" not in text and "evalkit env" in text


# --- resolve --------------------------------------------------------------------------------------


def test_the_suite_names_this_function():
    assert load_object("suites.robocasa_gr1.assets:resolve") is assets.resolve


def test_builtin(monkeypatch, source):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    found = resolve(scenes="builtin")
    assert (found.kind, found.folder) == (BUILT_IN, assets.BUILT_IN_FOLDER) and len(found.digest) == 16


def test_unknown_names(place, source, monkeypatch):
    assert "Did you mean 'builtin'" in refusal(scenes="built-in")
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    assert "Did you mean 'stand-in'" in refusal("standin")


def test_upstream_without_a_source_says_both_ways_out():
    text = refusal()
    assert checkout.VARIABLE in text and "--scenes builtin" in text and checkout.CLONE_COMMAND in text


def test_auto_without_a_source_is_builtin_with_one_notice(capsys):
    assert resolve("auto", "auto").kind == BUILT_IN
    assert resolve("real", "auto").kind == BUILT_IN
    assert capsys.readouterr().err.count("notice") == 1


def test_auto_takes_upstream_where_it_is(source, monkeypatch, python):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    assert resolve("stand-in", "auto", python).kind == STAND_IN
    (source / "LICENSE").unlink()
    assert "LICENSE (missing)" in refusal("stand-in", "auto", python), "a wrong checkout is an error, not a fallback"


def test_auto_clones_what_it_can_reach(repository, monkeypatch, python):
    monkeypatch.setattr(checkout, "URL", repository.as_uri())
    assert resolve("stand-in", "auto", python).kind == STAND_IN
    assert checkout.cloned_folder().is_dir()


def test_stand_ins_are_generated_once_in_a_copy(source, monkeypatch, python):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    write(source, {"notes.txt": "the user's own\n"})
    before = sorted(source.rglob("*"))
    first, second = resolve("stand-in", python=python), resolve("stand-in", python=python)
    assert first == second and first.kind == STAND_IN and len(first.digest) == 16
    assert sorted(source.rglob("*")) == before
    assert (first.folder / standin.ASSETS / "objects" / "file").is_file()
    assert checkout.differences(first.folder) == {} and not (first.folder / "notes.txt").exists()
    assert Path(f"{python}.calls").read_text() == "made\n"


def test_wrong_interpreter_stops_before_anything_is_made(source, monkeypatch, place):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    wrong = interpreter(place / "other", {**VERSIONS, "robosuite": "1.4.0"})
    assert "robosuite: found 1.4.0" in refusal("stand-in", python=wrong)
    assert not assets.stand_in_folder().exists()


@pytest.mark.parametrize("choice", ["real", "auto", "path"])
def test_a_filled_checkout_is_used_in_place(source, monkeypatch, choice):
    fill(source)
    if choice == "path":
        choice = str(source)
    else:
        monkeypatch.setenv(checkout.VARIABLE, str(source))
    found = resolve(choice)
    assert (found.kind, found.folder) == (REAL, source.resolve())


def test_a_generated_tree_is_never_called_real(source):
    write(fill(source) / standin.ASSETS, {standin.MARK: "stand-ins\n"})
    assert resolve(str(source)).kind == STAND_IN


def test_auto_without_real_assets_is_stand_in_with_one_notice(source, monkeypatch, python, capsys):
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    assert resolve("auto", python=python).kind == STAND_IN
    assert resolve("auto", python=python).kind == STAND_IN
    assert capsys.readouterr().err.count("notice") == 1


# --- completeness ---------------------------------------------------------------------------------


def test_the_inventory():
    shelves = list(inventory.shelves())
    assert len(inventory.SCALES) == 39 and len(shelves) == 44
    assert len(set(inventory.TEXTURES)) == 47 and len(inventory.FIXTURES) == 12


def test_a_complete_tree_lacks_nothing(source):
    assert inventory.missing(fill(source) / standin.ASSETS) == [], "sketchfab/book is in no release of upstream's"


def test_what_is_missing_is_named(source):
    tree = fill(source) / standin.ASSETS
    (tree / "objects/objaverse/pear/pear_7/model.xml").unlink()
    (tree / "objects/lightwheel/tray/tray_7/visual.obj").unlink()
    (tree / "objects/lightwheel/cardboard_box/cardboard_box_7/model.xml").unlink()
    (tree / "objects/objaverse/pan/pan_0/model.xml").unlink()
    (tree / "objects/lightwheel/pot/pot_7/model.xml").unlink()
    (tree / "textures/wood/wood_planks.png").unlink()
    (tree / "fixtures/toasters/boxy/visuals/a.png").unlink()
    assert inventory.missing(tree) == [
        "objects/objaverse/pear: no model of pear",
        "objects/objaverse/pan: no model of pot (pan_0, pan_12, pan_17, pan_22)",
        "objects/lightwheel/pot: no model of pot",
        "objects/lightwheel/cardboard_box: no model of cardboard_box",
        "objects/lightwheel/tray/tray_7/model.xml lacks visual.obj",
        "textures/wood/wood_planks.png",
        "fixtures/toasters/boxy/model.xml lacks visuals/a.png",
    ]


def test_unreadable_models_are_counted(source):
    tree = fill(source) / standin.ASSETS
    write(tree / "objects/objaverse/pear", {"pear_8/model.xml": "<muj", "pear_9/model.xml": "<muj"})
    [line] = inventory.missing(tree)
    assert line.startswith("objects/objaverse/pear/pear_8/model.xml lacks a readable XML") and "1 more" in line


def test_a_category_in_another_registry_is_a_notice(source, capsys):
    """What upstream's release holds of each registry is not known: it runs on the others, so do we."""
    (fill(source) / standin.ASSETS / "objects/sketchfab/placemat/placemat_7/model.xml").unlink()
    assert resolve(str(source)).kind == REAL
    assert "notice: objects/sketchfab/placemat: no model of placemat" in capsys.readouterr().err


def test_half_downloaded_assets(source, monkeypatch):
    fill(source)
    (source / standin.ASSETS / "textures/ceramic.png").unlink()
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    text = refusal()
    assert "textures/ceramic.png" in text and assets.UPSTREAM_DOWNLOAD in text and "--assets stand-in" in text


def test_a_tree_that_upstream_cannot_write_to(source, monkeypatch):
    fill(source)
    monkeypatch.setattr(os, "access", lambda path, mode: "tray" not in str(path))
    text = refusal(str(source))
    assert "objects/objaverse/tray/tray_7 is not writable" in text and "temporary" in text and "copy" in text


def test_listing_digest(source):
    tree = fill(source) / standin.ASSETS
    first = assets.listing_digest(tree)
    write(tree / "objects/objaverse/pear", {"pear_7/1700000000_123_4567.xml": MODEL, ".lock": ""})
    assert assets.listing_digest(tree) == first, "upstream's temporary files do not count"
    write(tree / "textures", {"ceramic.png": "another size"})
    assert assets.listing_digest(tree) != first


# --- downloads ------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; a file named in `cut` ends after so many bytes, once. `asked`: (path, Range) of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name, wanted = self.path[1:], self.headers.get("Range")
        self.server.asked.append((name, wanted))
        content = self.server.files[name]
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:self.server.cut.pop(name, len(content))])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


CONTENT = bytes(range(256)) * 20000


def test_a_download_continues_where_it_stopped(server, place):
    server.files["a.zip"], server.cut["a.zip"] = CONTENT, len(CONTENT) // 2
    path = place / "a.zip"
    with pytest.raises(OSError, match=f"ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        assets.fetch(server.url("a.zip"), path)
    assert not path.exists()
    assert assets.fetch(server.url("a.zip"), path).read_bytes() == CONTENT
    assert server.asked == [("a.zip", None), ("a.zip", f"bytes={len(CONTENT) // 2}-")]
    assert list(place.glob("*.partial")) == []


def test_a_server_without_ranges_begins_anew(server, place):
    server.files["a.zip"], server.ranges = CONTENT, False
    (place / "a.zip.partial").write_bytes(b"old")
    assert assets.fetch(server.url("a.zip"), place / "a.zip").read_bytes() == CONTENT


def test_a_download_that_was_whole(server, place):
    server.files["a.zip"] = CONTENT
    (place / "a.zip.partial").write_bytes(CONTENT)
    assert assets.fetch(server.url("a.zip"), place / "a.zip").read_bytes() == CONTENT


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, text in files.items():
            content.writestr(name, text)
    return buffer.getvalue()


def test_an_archive_is_unpacked_once(server, place):
    server.files["o.zip"] = zipped({"objaverse/pear/pear_0/model.xml": MODEL})
    archive = assets.Archive("objaverse", "objects", server.url("o.zip"))
    assets.fetch_archive(archive, place)
    assets.fetch_archive(archive, place)
    assert (place / standin.ASSETS / "objects/objaverse/pear/pear_0/model.xml").read_text() == MODEL
    assert len(server.asked) == 1 and list(place.glob("*.zip")) == []


def test_a_damaged_archive_is_fetched_again(server, place):
    good = zipped({"textures/a.png": "a picture, stored"})
    server.files["t.zip"] = good.replace(b"a picture", b"A picture")
    archive = assets.Archive("textures", "", server.url("t.zip"))
    with pytest.raises(InputError, match="is damaged"):
        assets.fetch_archive(archive, place)
    server.files["t.zip"] = good
    assets.fetch_archive(archive, place)
    assert (place / standin.ASSETS / "textures/a.png").read_text() == "a picture, stored"


def test_an_unreachable_server_says_the_ways_out_soon(place):
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        assets.fetch_archive(assets.Archive("textures", "", "http://127.0.0.1:9/textures.zip"), place)
    text = str(caught.value)
    assert "textures" in text and checkout.VARIABLE in text and "--assets stand-in" in text
    assert time.monotonic() - start < 10


def test_real_assets_are_downloaded_into_a_copy(server, source, monkeypatch, place, capsys):
    """The second archive breaks off; the same call again fetches nothing twice and finishes."""
    whole = fill(place / "filled") / standin.ASSETS
    trees = {name: {str(path.relative_to(whole / folder)): path.read_text()
                    for path in (whole / folder / name).rglob("*") if path.is_file()}
             for name, folder in (("textures", ""), ("fixtures", ""), ("objaverse", "objects"),
                                  ("sketchfab", "objects"), ("lightwheel", "objects"))}
    server.files = {f"{name}.zip": zipped(files) for name, files in trees.items()}
    monkeypatch.setattr(assets, "ARCHIVES", tuple(
        assets.Archive(archive.name, archive.folder, server.url(f"{archive.name}.zip"))
        for archive in assets.ARCHIVES))
    monkeypatch.setenv(checkout.VARIABLE, str(source))
    server.cut["objaverse.zip"] = 1000
    assert "ended after 1000" in refusal()
    assert not assets.downloaded_folder().exists()
    found = resolve()
    assert (found.kind, found.folder) == (REAL, assets.downloaded_folder())
    assert [name for name, _ in server.asked].count("textures.zip") == 1
    assert assets.DOWNLOAD_SIZE in capsys.readouterr().err
    assert resolve() == found and len(server.asked) == 6
    assert not inventory.has_any(source / standin.ASSETS), "the user's checkout stays as it was"
