"""The preflight: a missing Python or libgomp is one clear line, before anything is installed."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def make(target: str, folder: Path, *words: str, path: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/usr/bin/make", target, *words],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def bare(tmp_path):
    "A clone without .venv, and a PATH with a shell but no Python."
    clone, tools = tmp_path / "clone", tmp_path / "tools"
    (clone / "scripts").mkdir(parents=True)
    (clone / "quantlab").mkdir()
    tools.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "scripts/install.sh"):
        shutil.copy(ROOT / name, clone / name)
    for name in (
        "bash",
        "sh",
        "cat",
        "find",
        "sort",
        "xargs",
        "cksum",
        "cut",
        "grep",
        "sed",
        "expand",
        "rm",
        "touch",
        "mkdir",
    ):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return clone, tools


pytestmark = pytest.mark.skipif(not Path("/usr/bin/make").exists(), reason="make is not at /usr/bin/make")


@pytest.mark.parametrize("target", ["report", "test", "lab", "docs", "bench", "lock"])
def test_every_target_says_which_python_is_missing(bare, target):
    done = make(target, bare[0], path=str(bare[1]))
    assert (
        done.returncode != 0 and "quantlab needs Python 3.11 or 3.12" in done.stderr and "Traceback" not in done.stderr
    )
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


def test_the_cache_of_notebook_cells_stands_before_a_kernel_asks_for_it(bare):
    "IPython falls back to a folder that all checkouts share, where kernels of older sources lie, when it is not there."
    folder, path = bare
    (folder / "quantlab" / "one.py").write_text("x = 1")
    for _ in range(2):  # another source, another folder
        said = make("-pn", folder, "help", path=str(path)).stdout
        [home] = [line.split(" := ")[1] for line in said.splitlines() if line.startswith("XDG_CACHE_HOME := ")]
        assert Path(home).is_dir() and Path(home).is_relative_to(folder)
        (folder / "quantlab" / "one.py").write_text("x = 2")
    assert len(list((folder / ".cache").iterdir())) == 2


def test_nothing_is_installed_twice():
    "The workspace that runs this test is installed: make has nothing to do for it."
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("not run from make's own environment")
    done = subprocess.run(["/usr/bin/make", "-n", "install"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "install.sh" not in done.stdout


def pip_part() -> list[str]:
    "Return the lines under pip in environment.yml, which conda writes to a file beside it for `pip install -r`."
    import yaml

    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    [part] = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    return part


@pytest.fixture
def beside(tmp_path):
    "A folder with what the pip part names, and the file that conda writes."
    for name in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "quantlab").mkdir()
    shutil.copy(ROOT / "quantlab" / "__init__.py", tmp_path / "quantlab" / "__init__.py")
    (tmp_path / "condaenv.requirements.txt").write_text("\n".join(pip_part()) + "\n")
    return tmp_path


def test_pip_reads_the_conda_environment(beside):
    """pip's own parser reads the file: every pin of the lock that holds here, and the workspace itself as an
    editable install."""
    code = (
        "from pip._internal.network.session import PipSession\n"
        "from pip._internal.req import parse_requirements\n"
        "for found in parse_requirements('condaenv.requirements.txt', session=PipSession()):\n"
        "    print(found.is_editable, found.requirement)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=beside, capture_output=True, text=True)
    if "No module named 'pip'" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0].isalnum()]
    assert [line for line in lines if line.startswith("True")] == ["True ."] and len(lines) == len(pins) + 1


@pytest.mark.slow
def test_pip_would_install_the_conda_environment(beside):
    "pip's dry run, without a network: all is there already, in the locked versions."
    words = [
        "install",
        "--dry-run",
        "--no-index",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "-r",
        "condaenv.requirements.txt",
    ]
    done = subprocess.run([sys.executable, "-m", "pip", *words], cwd=beside, capture_output=True, text=True)
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr[-2000:]
    would = [line for line in done.stdout.splitlines() if line.startswith("Would install")]
    assert all(line.split() == ["Would", "install", line.split()[-1]] and "quantlab" in line for line in would), would


def test_secrets_stay_out_of_git_and_are_explained():
    "`.env` is ignored, `.env.example` is not, and every name in it is one that .env may set or the environment reads."
    from quantlab.core import config

    if shutil.which("git") and (ROOT / ".git").exists():
        ignored = lambda name: subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT).returncode == 0
        assert ignored(".env") and not ignored(".env.example")
    text = (ROOT / ".env.example").read_text()
    names = [line.lstrip("# ").partition("=")[0] for line in text.splitlines() if re.match(r"(# )?[A-Z_]+=", line)]
    assert all(config._OURS.fullmatch(name) for name in names) and len(names) == len(set(names))
    settings = ConfigParser(default_section="none")
    settings.read(ROOT / "settings.ini")
    known = {f"QUANTLAB_{section}_{key}".upper() for section in ("data", "research") for key in settings[section]}
    assert known <= set(names), known - set(names)
    assert {name for name in names if re.match("QUANTLAB_(DATA|RESEARCH)", name)} <= known
    assert not re.search(r"(?m)^(?!#)\w+=\S", text), "the example sets nothing by itself"
