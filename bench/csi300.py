"""The published CSI 300 workflow, Qlib's and ours, from the same files: features, fit, predict, backtest; accounts
compared day by day.

Each side runs in a process of its own, in alternating rounds; `peak_mb` is that process's high-water mark (Qlib's
helper processes are not counted). Both sides use the same number of LightGBM threads. Ours is run twice: with the
published parameters (`parts`), and with the first configuration of our search. `reproduction` fits the published
parameters on both sides' features with five seeds.
"""

import json
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import qlib_files as files  # noqa: E402

RESULTS = HERE / "results" / "csi300.json"
SPLIT = {
    "train": ("2008-01-01", "2014-12-31"),
    "valid": ("2015-01-01", "2016-12-31"),
    "test": ("2017-01-01", "2020-08-01"),
}
MODEL = {
    "colsample_bytree": 0.8879, "learning_rate": 0.2, "subsample": 0.8789, "lambda_l1": 205.6999, "lambda_l2": 580.9768,
    "max_depth": 8, "num_leaves": 210,
}  # fmt: skip
PHASES = ("features", "fit", "predict", "backtest")


def peak_mb() -> float:
    "Return the high-water mark of this process."
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


class Watch:
    "Write down how long each phase took."

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def as_panel_scores(scores: pd.Series) -> pd.Series:
    "Give Qlib's scores our index."
    scores = scores.rename("score").rename_axis(["date", "symbol"]).sort_index()
    return scores.set_axis(scores.index.set_levels(scores.index.levels[0].as_unit("us"), level=0))


def peer(threads: int, seeds: tuple[int, ...] = (0,), keep: str = "") -> dict:
    "Run Qlib's workflow as its configuration file has it; further seeds are fitted outside the clock."
    files.start_qlib(processes=2)
    import qlib.contrib.model.gbdt as gbdt
    from qlib.contrib.data.handler import Alpha158
    from qlib.data.dataset import DatasetH

    gbdt.R = type(
        "Recorder", (), {"log_metrics": staticmethod(lambda **metrics: None)}
    )  # the store that it opens refuses MLflow 3
    watch = Watch()
    handler = Alpha158(
        instruments="csi300",
        start_time=SPLIT["train"][0],
        end_time=SPLIT["test"][1],
        fit_start_time=SPLIT["train"][0],
        fit_end_time=SPLIT["train"][1],
    )
    data = DatasetH(handler, SPLIT)
    watch.lap("features")
    model = lambda seed: gbdt.LGBModel(loss="mse", num_threads=threads, seed=seed, **MODEL)
    first = model(seeds[0])
    first.fit(data, verbose_eval=0)
    watch.lap("fit")
    scores = first.predict(data, "test")
    watch.lap("predict")
    report = files.qlib_account(scores, *SPLIT["test"])
    watch.lap("backtest")
    found, memory = {}, peak_mb()
    label = data.prepare("test", col_set="label", data_key="raw").iloc[:, 0]
    for seed in seeds:
        if seed != seeds[0]:
            other = model(seed)
            other.fit(data, verbose_eval=0)
            scores = other.predict(data, "test")
            report = files.qlib_account(scores, *SPLIT["test"])
        found[seed] = _judge(
            as_panel_scores(scores), as_panel_scores(label), report["return"] - report["bench"] - report["cost"]
        )
    if keep:  # scores without ties, and Qlib's report on them: what the accounts are compared on
        unique = as_panel_scores(scores).groupby(level="date").rank(method="first")
        unique.to_frame().to_parquet(f"{keep}/scores.parquet")
        files.qlib_account(unique, *SPLIT["test"]).to_parquet(f"{keep}/report.parquet")
    return {"seconds": watch.seconds, "peak_mb": memory, "seeds": found}


def _judge(scores: pd.Series, y: pd.Series, excess: pd.Series) -> dict[str, float]:
    import csi300_study as study

    return study.numbers(scores, y) | study.risk(excess)


def ours(threads: int, published: bool, seeds: tuple[int, ...] = (0,)) -> dict:
    "Run the same workflow with ours."
    import csi300_study as study

    watch = Watch()
    data = study.Data.read(warm_up=61)
    X = data.raw
    watch.lap("features")
    config, rows = study.Config(), data.judged(*SPLIT["test"])

    def fit(seed: int):
        if published:
            return study.train_published(data, seed, threads=threads)
        spans = data.span(*SPLIT["train"], config.gap), data.judged(*SPLIT["valid"], study.GAP)
        return study.train(data, config, *spans, seed=seed, threads=threads)

    booster = fit(seeds[0])
    watch.lap("fit")
    scores = study.predict(data, config, booster, rows, threads)
    watch.lap("predict")
    account = study.account(scores, *SPLIT["test"])
    excess = study.excess(account)
    watch.lap("backtest")
    found, memory = {}, peak_mb()
    for seed in seeds:
        if seed != seeds[0]:
            scores = study.predict(data, config, fit(seed), rows, threads)
            excess = study.excess(study.account(scores, *SPLIT["test"]))
        found[seed] = study.numbers(scores, data.y()[rows]) | study.risk(excess)
    return {"seconds": watch.seconds, "peak_mb": memory, "seeds": found, "rows": len(X), "columns": X.shape[1]}


def accounts(kept: str) -> dict[str, float]:
    """Return the largest differences of our account from Qlib's report on the same scores, by date, as max |a - b| /
    max(|b|, 1)."""
    import csi300_study as study

    run = study.account(pd.read_parquet(f"{kept}/scores.parquet")["score"], *SPLIT["test"])
    report = pd.read_parquet(f"{kept}/report.parquet")
    pairs = {
        "account": (run.equity, report["account"]), "cash": (run.cash, report["cash"]),
        "turnover": (run.turnover, report["turnover"]),
        "total_cost": (run.costs.sum(axis=1).cumsum(), report["total_cost"]),
    }  # fmt: skip
    far = {name: float(((a - b).abs() / b.abs().clip(lower=1)).max()) for name, (a, b) in pairs.items()}
    return far | {"sessions": len(report), "trades": len(run.trades)}


def lightgbm_alone(threads: int) -> list[dict]:
    "Time LightGBM on the training rows in several ways: binning, then 20 trees of the published parameters."
    import csi300_study as study
    import lightgbm as lgb

    data = study.Data.read()
    y = study.zscore(data.y()).to_numpy()
    rows = data.span(*SPLIT["train"]) & np.isfinite(y)
    X32, found = data.raw.to_numpy()[rows], []
    ways = {
        "as published": {}, "column-wise": {"force_col_wise": True}, "row-wise": {"force_row_wise": True},
        "63 bins": {"max_bin": 63},
        "63 bins, column-wise": {"max_bin": 63, "force_col_wise": True},
        "63 bins from 50,000 rows": {"max_bin": 63, "bin_construct_sample_cnt": 50_000},
        "float64 input": {}, "column-major input": {}, "one thread": {"num_threads": 1},
        "quantised gradients": {"use_quantized_grad": True},
    }  # fmt: skip
    for name, change in ways.items():
        X = (
            X32.astype("float64")
            if name.startswith("float64")
            else np.asfortranarray(X32)
            if name.startswith("column-major")
            else X32
        )
        parameters = study.PUBLISHED | {"num_threads": threads, "verbosity": -1, "seed": 0} | change
        watch = Watch()
        dataset = lgb.Dataset(X, y[rows], params=parameters).construct()
        watch.lap("bin")
        lgb.train(parameters, dataset, 20)
        watch.lap("trees")
        found.append({"way": name, **{k: round(v, 2) for k, v in watch.seconds.items()}})
    return found


def _longer(reproduction: dict) -> dict:
    "Return the stored reproduction if it has more seeds than this one: fits with a seed are the same in every run."
    stored = json.loads(RESULTS.read_text())["reproduction"] if RESULTS.exists() else reproduction
    return stored if len(stored["qlib"]) > len(reproduction["qlib"]) else reproduction


def main(rounds: int = 3, threads: int = 2, seeds: int = 5) -> dict:
    "Return the comparison and store it."
    if not files.CSI300.exists():
        return {"name": "csi300", "skipped": f"no {files.CSI300.name} beside the project; set QUANTLAB_SHARED"}
    folder = HERE.parent / ".cache" / "csi300"
    folder.mkdir(parents=True, exist_ok=True)
    kept, turns = str(folder), []
    side = lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with side() as us, side() as them, side() as same:
        us.submit(ours, threads, False).result()  # compiled code is loaded once
        same.submit(ours, threads, True).result()
        for _ in range(rounds):
            turns.append(
                (
                    them.submit(peer, threads).result(),
                    us.submit(ours, threads, False).result(),
                    same.submit(ours, threads, True).result(),
                )
            )
    with side() as them, side() as same, side() as apart:
        peer_seeds = them.submit(peer, threads, tuple(range(seeds)), kept).result()["seeds"]
        our_seeds = same.submit(ours, threads, True, tuple(range(seeds))).result()["seeds"]
        compared = apart.submit(accounts, kept).result()
        alone = apart.submit(lightgbm_alone, threads).result()
    whole = lambda run: sum(run["seconds"].values())
    seconds = {
        name: {p: round(median(turn[k]["seconds"][p] for turn in turns), 3) for p in PHASES}
        for k, name in enumerate(("qlib", "ours", "ours, published parameters"))
    }
    peer_s, ours_s, same_s = (median(whole(turn[k]) for turn in turns) for k in range(3))
    peer_mb, ours_mb, same_mb = (turns[-1][k]["peak_mb"] for k in range(3))
    last = turns[-1]
    found = {
        "name": "csi300", "peer": "qlib 0.9.7, 2 processes for features", "threads": threads, "rounds": rounds,
        "rows": last[1]["rows"], "columns": last[1]["columns"],
        "peer_s": peer_s, "ours_s": ours_s, "ratio": peer_s / ours_s, "peer_mb": peer_mb, "ours_mb": ours_mb,
        "memory_share": ours_mb / peer_mb,
        "peer_ic": last[0]["seeds"][0]["ic"], "ours_ic": last[1]["seeds"][0]["ic"], "max_rel_diff": compared["account"],
        "n": last[1]["rows"],
        "features_ratio": seconds["qlib"]["features"] / seconds["ours"]["features"],
        "backtest_ratio": seconds["qlib"]["backtest"] / seconds["ours"]["backtest"],
        "parts": {
            "seconds": seconds,
            "published": {"ours_s": same_s, "ratio": peer_s / same_s, "ours_mb": same_mb,
            "ours_ic": last[2]["seeds"][0]["ic"]},
            "accounts": compared, "lightgbm_alone": alone,
        },
        "reproduction": _longer({"qlib": peer_seeds, "ours": our_seeds}),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return {k: v for k, v in found.items() if k != "reproduction"}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))  # rounds, threads, seeds
