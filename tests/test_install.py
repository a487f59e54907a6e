"""The preflight: a missing Python or libgomp is one clear line, before anything is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make(target: str, folder: Path, *words: str, path: str) -> subprocess.CompletedProcess:
    return subprocess.run(["/usr/bin/make", target, *words], cwd=folder, env={"PATH": path, "HOME": str(folder)}, capture_output=True, text=True, timeout=60)


@pytest.fixture
def bare(tmp_path):
    "A clone without .venv, and a PATH with a shell but no Python."
    clone, tools = tmp_path / "clone", tmp_path / "tools"
    (clone / "scripts").mkdir(parents=True)
    (clone / "quantlab").mkdir()
    tools.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "scripts/install.sh"):
        shutil.copy(ROOT / name, clone / name)
    for name in ("bash", "sh", "cat", "find", "sort", "xargs", "cksum", "cut", "grep", "sed", "expand", "rm", "touch"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return clone, tools


pytestmark = pytest.mark.skipif(not Path("/usr/bin/make").exists(), reason="make is not at /usr/bin/make")


@pytest.mark.parametrize("target", ["report", "test", "lab", "docs", "bench", "lock"])
def test_every_target_says_which_python_is_missing(bare, target):
    done = make(target, bare[0], path=str(bare[1]))
    assert done.returncode != 0 and "quantlab needs Python 3.11 or 3.12" in done.stderr and "Traceback" not in done.stderr
    assert not (bare[0] / ".venv").exists()


def test_another_python_is_not_taken(bare):
    other = bare[1] / "python3"
    other.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.9.1;; *) exit 1;; esac\n")
    other.chmod(0o755)
    done = make("report", bare[0], path=str(bare[1]))
    assert "none is on the PATH (found: Python 3.9.1)" in done.stderr


def test_a_missing_libgomp_is_named_with_its_remedy(bare):
    "A Python whose loader finds no library stands for a machine without libgomp."
    python = bare[1] / "python3.11"
    blocked = "import ctypes\ndef refuse(name): raise OSError(name)\nctypes.CDLL = refuse\n"
    (bare[0] / "sitecustomize.py").write_text(blocked)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{bare[0]}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = make("report", bare[0], f"PYTHON={python}", path=str(bare[1]))
    assert done.returncode != 0 and "libgomp.so.1" in done.stderr and "apt-get install libgomp1" in done.stderr
    assert "Traceback" not in done.stderr and not (bare[0] / ".venv").exists()


def test_nothing_is_installed_twice():
    "The workspace that runs this test is installed: make has nothing to do for it."
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("not run from make's own environment")
    done = subprocess.run(["/usr/bin/make", "-n", "install"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "install.sh" not in done.stdout
