"""The lake shared with the real program dvc, of the PATH or of the environment that `make bench-peers ONLY=dvc` builds;
without it these tests skip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.data.sample import sample_bars
from quantlab.data.store import Lake
from quantlab.vendors.share import fetch_lake, share_lake, shared_lake

pytestmark = pytest.mark.slow
PEER = root() / ".cache" / "peers" / "dvc" / "bin"
PROGRAM = Path(sys.executable).parent / "quantlab"


@pytest.fixture
def desks(tmp_path, monkeypatch):
    "A checkout with a lake and a clone of it without one; a function that goes to one of them."
    if not (PEER / "dvc").exists() and not shutil.which("dvc"):
        pytest.skip("the program dvc is not here; make bench-peers ONLY=dvc")
    monkeypatch.setenv("PATH", f"{PEER}{os.pathsep}{os.environ['PATH']}")
    bars, later = (sample_bars(["AAPL", "KO"], "2020-01-02", f"2020-0{month}-30") for month in (3, 4))
    one = tmp_path / "one"
    one.mkdir()
    (one / "settings.ini").write_text("[research]\n[data]\nlake = data/lake\n")
    (one / ".gitignore").write_text("data/lake/\n")
    git(one, "init", "-q", ".")

    def go(name):
        monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path / name))
        return tmp_path / name

    go("one")
    Lake().write("us", "1d", bars)
    share_lake(str(tmp_path / "remote"))
    git(one, "add", "-A")
    git(one, "commit", "-q", "-m", "the lake")
    git(tmp_path, "clone", "-q", "one", "two")
    return go, bars, later


def git(folder, *words):
    "Run git there as somebody."
    who = ["-c", "user.email=desk@example.org", "-c", "user.name=desk"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_clone_holds_the_same_bars_and_git_none_of_them(desks):
    go, bars, later = desks
    kept = git(go("one"), "ls-files").split()
    assert "data/lake.dvc" in kept and not any(name.startswith("data/lake/") for name in kept)
    go("two")
    assert fetch_lake() == shared_lake() and Lake().read("us").equals(bars)


def test_a_later_version_arrives_and_the_first_can_be_had_again(desks):
    go, bars, later = desks
    go("two")
    fetch_lake()
    one = go("one")
    first = shared_lake()
    Lake().write("us", "1d", later)
    assert share_lake().md5 != first.md5
    git(one, "commit", "-q", "-a", "-m", "one month more")
    two = go("two")
    git(two, "pull", "-q")
    fetch_lake()
    assert Lake().read("us").equals(later)
    git(two, "checkout", "-q", "HEAD~1")
    assert fetch_lake().md5 == first.md5 and Lake().read("us").equals(bars)


@pytest.mark.parametrize("name", ["mine.parquet", None])
def test_what_was_never_shared_is_not_overwritten(desks, name):
    go, _, _ = desks
    two = go("two")
    fetch_lake()
    lake = two / "data" / "lake"
    mine = lake / name if name else next(lake.rglob("*.parquet"))
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="were not shared"):
        fetch_lake()
    assert mine.read_bytes() == b"mine"


def test_a_remote_that_is_gone_is_one_line(desks, tmp_path):
    go, _, _ = desks
    (tmp_path / "remote").rename(tmp_path / "elsewhere")
    go("two")
    with pytest.raises(DataError, match="^dvc pull failed: [^\n]+; nothing here was changed$"):
        fetch_lake()


def test_the_commands(desks):
    go, _, _ = desks
    two = go("two")
    asked = lambda *words: subprocess.run([PROGRAM, "data", *words], cwd=two, capture_output=True, text=True)
    done = asked("fetch")
    assert done.returncode == 0 and shared_lake().md5[:12] in done.stdout
    done = asked("share")
    assert done.returncode == 0 and "commit data/lake.dvc" in done.stdout


def test_no_remote_is_asked_for(desks, tmp_path):
    go, bars, later = desks
    (tmp_path / "three").mkdir()
    shutil.copy(go("one") / "settings.ini", tmp_path / "three")
    go("three")
    Lake().write("us", "1d", bars)
    with pytest.raises(DataError, match="no remote is named yet"):
        share_lake()
