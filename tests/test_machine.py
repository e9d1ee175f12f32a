"""The machine's limits: each check with enough and with too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.doctor import machine
from evalkit.doctor.findings import OK, PROBLEM, WARNING
from evalkit.doctor.machine import GIB, Facts

SMALL = Facts(cores=2, memory_gb=7.0, open_files=1024)
LARGE = Facts(cores=64, memory_gb=250.0, open_files=65536)


@pytest.mark.parametrize("check, facts, arguments, level, said", [
    (machine.check_cores, LARGE, (64,), OK, "64 cores"), (machine.check_cores, SMALL, (8,), WARNING, "--workers 2"),
    (machine.check_memory, LARGE, (64, 2.5), OK, "take 160 GiB"),
    (machine.check_memory, SMALL, (4, 2.5), WARNING, "--workers 2"),
    (machine.check_memory, SMALL, (1, 8.0), PROBLEM, "one worker needs 8 GiB"),
    (machine.check_open_files, LARGE, (64,), OK, "65536 allowed"),
    (machine.check_open_files, SMALL, (64,), OK, "896 may be needed"),
    (machine.check_open_files, SMALL, (128,), WARNING, "ulimit -n 65536"),
])
def test_workers(check, facts, arguments, level, said):
    """Cores, memory and open files against the workers asked for."""
    finding = check(facts, *arguments)
    assert finding.level == level and said in f"{finding.found} {finding.move}"


def test_workers_default_to_one_a_core():
    """Nothing asked: as many as a run would start."""
    assert [finding.level for finding in machine.check_workers(LARGE, None, 1.0)] == [OK, OK, OK]
    assert "64 workers" in next(iter(machine.check_workers(LARGE, None, 1.0))).found


@pytest.mark.parametrize("free, level", [(100.0, OK), (5.0, WARNING), (1.0, PROBLEM)])
def test_disk(free, level):
    """Places on one disk need the sum: 5 GiB for the cache and 2 for results."""
    finding = machine.check_disk([("cache", Path("/c"), 5.0), ("results", Path("/r"), 2.0)], free)
    assert finding.level == level and "cache, results" in finding.found
    assert ("EVALKIT_CACHE" in finding.move) == (level != OK)


def test_disks_of_this_machine(tmp_path, monkeypatch):
    """Folders that do not exist yet are looked for above; a row a disk, and one for writing."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache" / "of" / "mine"))
    *disks, folders = machine.check_disks(tmp_path / "results" / "runs")
    assert 1 <= len(disks) <= 2 and folders.level == OK and str(tmp_path / "results" / "runs") in folders.found
    assert not (tmp_path / "results").exists() and not (tmp_path / "cache").exists()


def test_folder_that_refuses(tmp_path, monkeypatch):
    """A quota or a read-only mount shows when a file is made."""
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    finding = machine.check_writable([tmp_path])
    assert finding.level == PROBLEM and finding.found == f"{tmp_path}: Read-only file system"


def test_shared_memory(tmp_path, monkeypatch):
    """Docker's 64 MB are too little; a folder that is missing is none."""
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: machine.shutil._ntuple_diskusage(GIB, 0, GIB))
    assert machine.check_shared_memory(tmp_path).level == OK
    small = machine.check_shared_memory(tmp_path / "absent")
    assert small.level == WARNING and "--shm-size" in small.move


def test_facts_of_this_machine():
    """Read from the kernel: some of each."""
    facts = machine.facts()
    assert facts.cores >= 1 and facts.memory_gb > 0.1 and facts.open_files >= 256
