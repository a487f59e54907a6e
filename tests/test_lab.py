"make lab: the command that it runs, and a server that opens the start page."

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START = "nbs/tutorials/start.ipynb"


def command(*words: str, user: int = 1000, folder: Path | None = None) -> str:
    "Return what make would run, as a user of a given id."
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (place / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (place / "id").chmod(0o755)
    terms = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}
    asked = ["make", "--no-print-directory", "-n", "-o", "install", "-o", ".venv/.installed", "lab", *words]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, env=terms)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_command_opens_the_start_page_and_root_is_let_in(tmp_path):
    plain, root = (command(user=user, folder=tmp_path).split() for user in (1000, 0))
    assert plain[:3] == [".venv/bin/jupyter", "lab", "--notebook-dir=."] and plain[-1] == START
    assert "--allow-root" not in plain and root[3] == "--allow-root" and root[-1] == START
    words = command("OPTIONS=--no-browser --port 8899", folder=tmp_path)
    assert words.endswith(f"--no-browser --port 8899 {START}")


def answer(address: str, path: str, token: str) -> dict:
    "Ask the server for a path."
    asked = urllib.request.Request(f"{address}{path}", headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(asked, timeout=10) as got:
        assert got.status == 200
        return json.loads(got.read())


def test_a_server_opens_the_start_page_and_ends(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jupyter = Path(sys.executable).parent / "jupyter"
    if not jupyter.is_file():
        pytest.skip("needs jupyterlab, an extra of developers")
    token, log = "start", tmp_path / "log"
    words = [
        jupyter,
        "lab",
        f"--notebook-dir={ROOT}",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
    ]
    words += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    own = {f"JUPYTER_{key}_DIR": str(tmp_path / key.lower()) for key in ("CONFIG", "DATA", "RUNTIME")}
    with log.open("w") as out:
        server = subprocess.Popen([*words, ROOT / START], stdout=out, stderr=out, env={**os.environ, **own})
    try:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(240):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                answer(address, "api/status", token)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        page = answer(address, f"api/contents/{START}", token)
        assert page["type"] == "notebook" and page["content"]["cells"][0]["source"].startswith("# Start")
        with pytest.raises(urllib.error.HTTPError):
            answer(address, f"api/contents/{START}", "another")
        with urllib.request.urlopen(f"{address}lab/tree/{START}?token={token}", timeout=10) as opened:
            assert opened.status == 200 and b"JupyterLab" in opened.read()
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)
    assert server.poll() is not None


def test_every_link_of_the_start_page_leads_somewhere_and_its_commands_are_there():
    import typer

    from quantlab.commands.cli import app

    cells = json.loads((ROOT / START).read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert len(links) >= 6 and [link for link in links if not (ROOT / "nbs" / "tutorials" / link).exists()] == []
    tutorials = {file.name for file in (ROOT / "nbs" / "tutorials").glob("*.ipynb")} - {"start.ipynb"}
    assert tutorials <= set(links)
    commands = typer.main.get_command(app).commands
    used = {words.split()[0] for words in re.findall(r"`quantlab ([a-z][^`]*)`", text)}
    assert used <= set(commands) and len(used) >= 5


def test_the_last_runs_are_shown_and_none_is_a_sentence(tmp_path, monkeypatch):
    import nbformat

    from quantlab.report.run import run_report

    for key in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{key}", str(tmp_path / key.lower()))
    space: dict = {}
    for cell in json.loads((ROOT / START).read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
    assert space["last_runs"]().startswith("no runs yet")
    cells = [nbformat.v4.new_code_cell("size: int = 2  # of it", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell("from quantlab.report.template import emit\nemit({'twice': 2.0 * size})")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "tiny.ipynb")
    made = run_report(tmp_path / "tiny.ipynb", {"size": 4}, track=False)
    table = space["last_runs"]()
    assert table.index.tolist() == [made.folder.name] and table["numbers"].item() == "twice 8"
