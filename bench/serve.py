"""Questions about a book of 100 positions, asked of the real server twenty times a second for a minute.

A recipe on the names of the sample with the longest history is run and registered in a folder of its own, and
`quantlab serve` is started on it as a process of its own, at the last close of the data. A process of two threads asks
POST /risk over loopback with 100 positions, other quantities each time, at moments fixed beforehand: a question is
timed from the moment at which it was due, so that a server that falls behind is not flattered. A first second that is
not counted warms the line. Each answer carries its receipt. An error is any answer but 200, or none. There is no peer:
what is measured is whether a risk page can be kept at this rate.

Usage: python bench/serve.py [seconds]; only the full minute is stored.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from quantlab.core.ledger import Ledger
from quantlab.ops.registry import register_recipe
from quantlab.ops.tokens import TokenFile
from quantlab.recipe.market import market_bars
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "serve.json"
POSITIONS, RATE, SECONDS, WARM, CALLERS = 100, 20, 60, 1, 2
COMMAND = "from quantlab.commands.cli import main; main()"


def longest(names: int) -> list[str]:
    "Return the names of the sample with the most bars, of equals the first by the alphabet."
    bars = market_bars(Recipe().replace(data__universe="all")).raw
    counts = bars.groupby(level="symbol").size().sort_index()
    last = bars.index[-1][0]
    counts = counts[counts.index.isin(bars.loc[last].index)]  # that trade to this day
    return sorted(counts.sort_values(ascending=False, kind="stable").index[:names])


def registered(folder: Path, names: list[str]) -> tuple[str, str]:
    "Run and register a recipe on these names; return its key and a moment after its last close."
    recipe = Recipe().replace(
        name="bench", data__universe=", ".join(names), features__use=["rev_21", "mom_63_5"], model__kind="ridge",
        split__train_sessions=756, split__test_sessions=252,
    )  # fmt: skip
    ledger = Ledger(folder / "ledger.sqlite")
    done = run(recipe, ledger=ledger)
    register_recipe(done, folder / "mlflow.sqlite", ledger)
    return done.key, f"{market_bars(recipe).raw.index[-1][0]:%Y-%m-%d}T22:00Z"


def started(folder: Path, at: str) -> tuple[subprocess.Popen, str]:
    "Start the server and wait until it would answer."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = {"RESEARCH_TRACKING": "mlflow.sqlite", "RESEARCH_LEDGER": "ledger.sqlite", "SERVE_TOKENS": "tokens.json"}
    files |= {"SERVE_JOBS": "jobs.sqlite", "SERVE_WAKE": "wake.sqlite"}
    env = os.environ | {f"QUANTLAB_{name}": str(folder / file) for name, file in files.items()}
    words = ["serve", "--recipe", "bench", "--stage", "candidate", "--port", str(port), "--at", at]
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen([sys.executable, "-c", COMMAND, *words], cwd=HERE.parent, env=env, stderr=log, stdout=log)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{address}/ready").status_code == 200:
                return server, address
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    server.kill()
    raise SystemExit(f"the server did not come up: {(folder / 'server.log').read_text()[-1000:]}")


def ask(address: str, token: str, names: list[str], seconds: int) -> tuple[list[float], list[int]]:
    "Ask at fixed moments; return seconds from when each was due, and the statuses (0: no answer)."
    count = (seconds + WARM) * RATE
    quantities = np.random.default_rng(1).integers(-1000, 1000, (count, len(names))) + 0.5
    took, status = [0.0] * count, [0] * count
    begun = time.perf_counter() + 0.5

    def caller(first: int) -> None:
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=30) as line:
            for n in range(first, count, CALLERS):
                due = begun + n / RATE
                time.sleep(max(0.0, due - time.perf_counter()))
                book = [{"symbol": name, "quantity": q} for name, q in zip(names, quantities[n].tolist(), strict=True)]
                try:
                    status[n] = line.post("/risk", json={"portfolio": book}).status_code
                except httpx.TransportError:
                    pass
                took[n] = time.perf_counter() - due

    callers = [threading.Thread(target=caller, args=(first,)) for first in range(CALLERS)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    return took[WARM * RATE :], status[WARM * RATE :]


def main(seconds: int = SECONDS) -> dict:
    "Measure, and store the full minute."
    names = longest(POSITIONS)
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        key, at = registered(folder, names)
        token = TokenFile(folder / "tokens.json").issue("bench")
        server, address = started(folder, at)
        try:
            took, status = ask(address, token, names, seconds)
        finally:
            server.terminate()
            ended = server.wait(60)
    ms = np.array(took) * 1e3
    figures = {f"p{q}_ms": round(float(np.percentile(ms, q)), 2) for q in (50, 95, 99)}
    errors = sum(one != 200 for one in status)
    found = {
        "name": "serve", "peer": "none: what is measured is the rate", "ours_s": round(float(np.median(ms)) / 1e3, 5),
        "peer_s": None, "ratio": None, "cold_s": None, "peer_cold_s": None, "ours_mb": None, "peer_mb": None,
        "max_rel_diff": None, "n": len(status),
        "parts": {
            "positions": POSITIONS, "a_second": RATE, "seconds": seconds, **figures,
            "max_ms": round(float(ms.max()), 2), "errors": errors, "ended_with": ended,
            "key": key, "as_of": at[:10], "load": round(os.getloadavg()[0], 2),
        },
    }  # fmt: skip
    print(f"p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, {errors} errors of {len(status)}", flush=True)
    if seconds >= SECONDS:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
