"""The dynamic programme of jump models, ours in numba against the pure Python of jumpmodels in its own environment.

The losses are those of SPY's published features on the committed sample under a fitted model, so nothing but the
project is needed: two states, the grid of 21 mixtures of the continuous model, and 231 mixtures of three states. A pass
gives path and costs. jumpmodels' process is started once and times its own passes; the clock here holds a request
beside them, a millisecond for ten passes. `max_rel_diff` compares costs, `other_states` counts days named otherwise.
Our kernels are compiled by the fits that make the losses, so `cold_s` is warm.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np

from quantlab.data.sample import sample_context
from quantlab.regime.jump import JumpModel, jump_costs, jump_inputs, jump_path

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".cache" / "peers" / "jumpmodels" / "bin" / "python"
RESULTS = HERE / "results" / "jump.json"
PASSES = {"two states": 10, "21 mixtures": 10, "231 mixtures": 1}


def programmes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    "Return losses and prices of moves of the three models, fitted to all of SPY."
    X = jump_inputs(sample_context("SPY")["close"].droplevel("symbol"))
    models = {
        "two states": JumpModel(penalty=50.0, n_starts=2),
        "21 mixtures": JumpModel(penalty=600.0, continuous=True, n_starts=2),
        "231 mixtures": JumpModel(n_states=3, penalty=100.0, continuous=True, n_starts=1, n_iter=3),
    }
    return {name: (model.fit(X)._losses(X), model.moves_) for name, model in models.items()}


class Peer:
    "Keep jumpmodels' process and ask it for passes."

    def __init__(self, folder: Path):
        self.folder, self.seconds = folder, {}
        command = [str(PYTHON), str(HERE / "peers" / "jumpmodels_dp.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        self.version = self.process.stdout.readline().strip()

    def run(self, name: str, passes: int) -> tuple[np.ndarray, np.ndarray]:
        "Return costs and path of one programme."
        key = name.replace(" ", "_")
        self.process.stdin.write(f"{key} {passes}\n")
        self.process.stdin.flush()
        self.seconds.setdefault(name, []).append(float(self.process.stdout.readline()) / passes)
        return np.load(self.folder / f"{key}_costs.npy"), np.load(self.folder / f"{key}_path.npy")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def measure(name: str, work: tuple[np.ndarray, np.ndarray], peer: Peer, rounds: int) -> dict:
    "Time both sides on one programme."
    passes = PASSES[name]
    ours = lambda: [jump_path(*work) for _ in range(passes)][-1]
    theirs = lambda: peer.run(name, passes)
    values = (lambda _: jump_costs(*work), lambda found: found[0])
    label = f"jumpmodels {peer.version}"
    found = harness.compare("jump", label, ours, theirs, values, n=len(work[0]), rounds=rounds, memory=False)
    own = statistics.median(peer.seconds[name][1:])
    mine = found["ours_s"] / passes
    return found | {
        "passes": passes,
        "states": work[0].shape[1],
        "ours_us_per_pass": 1e6 * mine,
        "peer_us_per_pass_own_clock": 1e6 * own,
        "ratio_own_clock": own / mine,
        "other_states": int((ours()[0] != theirs()[1]).sum()),
    }


def main(rounds: int = 5) -> dict:
    "Time the three programmes; the one of two states is the headline."
    if not PYTHON.exists():
        return {"name": "jump", "skipped": "jumpmodels' environment is not there; make bench-peers builds it"}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        work = programmes()
        for name, (loss, moves) in work.items():
            key = name.replace(" ", "_")
            np.save(f"{folder}/{key}_loss.npy", loss)
            np.save(f"{folder}/{key}_moves.npy", moves)
        peer = Peer(Path(folder))
        for name in work:
            found[name] = measure(name, work[name], peer, rounds)
        peer.close()
    result = found["two states"] | {"parts": found}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5), indent=1))
