"""Search a better configuration on the CSI 300 study, judged on 2015-2016 alone. Usage: python bench/csi300_search.py [hours]

Stage by stage, the best so far is changed in one respect at a time. The criterion is the mean of ICIR and rank ICIR over the validation
years, not of the ICs: a level can come from one style that paid in one of the two years, steadiness less so.
Each trial is stored as soon as it is known, so a killed search goes on where it stopped. No row after 2016 is read by a trial.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import csi300_study as study  # noqa: E402

from quantlab.core.config import path, root  # noqa: E402
from quantlab.core.ledger import Ledger, content_key  # noqa: E402
from quantlab.features.xsection import zscore  # noqa: E402
from quantlab.validation.inference import return_moments  # noqa: E402

TRIALS = HERE / "results" / "csi300_trials.json"
STUDY = "csi300/valid"
KEPT = root() / ".cache" / "csi300" / "trials"  # validation scores, for the accounts
STAGES = [
    [{}, {"target": "zscore"}, {"target": "uniform"}],
    [{"features": "raw+extra"}, {"features": "raw+rank"}, {"features": "rank"}],
    [{"horizons": ((1, 0.5), (5, 0.5))}, {"horizons": ((1, 0.7), (3, 0.3))}],
    [{"num_leaves": 32, "min_data": 500}, {"num_leaves": 128, "lambda_l1": 150.0, "lambda_l2": 500.0}, {"feature_fraction": 0.15}, {"bagging": 0.5}],
    [{"half_life": 3.0}, {"start": "2010-01-01"}],
    [{"learning_rate": 0.05, "trees": 400}],
    [{"lambda_l1": 10.0, "lambda_l2": 50.0}, {"lambda_l1": 0.0, "lambda_l2": 10.0, "min_data": 1000}],
    [{"rows": "ever"}, {"rows": "ever", "features": "raw+rank"}],
]


def stored() -> dict[str, dict]:
    return json.loads(TRIALS.read_text()) if TRIALS.exists() else {}


def write(trials: dict[str, dict]) -> None:
    draft = TRIALS.with_suffix(".draft")
    draft.write_text(json.dumps(trials, indent=1) + "\n")
    draft.replace(TRIALS)


def run(data: study.Data, config: study.Config, binned: dict) -> dict:
    "Fit one configuration on 2008-2014 and judge it on 2015-2016."
    began = time.perf_counter()
    fit, held = data.span(config.start, study.TRAIN_END, config.gap), data.judged("2015-01-01", study.VALID_END, study.GAP)
    booster = study.train(data, config, fit, held, binned=binned)
    scores = study.predict(data, config, booster, held)
    key = content_key(**config.plain())
    KEPT.mkdir(parents=True, exist_ok=True)
    scores.to_frame().to_parquet(KEPT / f"{key}.parquet")
    found = study.numbers(scores, data.y()[held])
    return {"config": config.plain(), "valid": found, "trees": booster.best_iteration, "seconds": round(time.perf_counter() - began, 1)}


def criterion(trial: dict) -> float:
    return (trial["valid"]["icir"] + trial["valid"]["rank_icir"]) / 2


def walk(data: study.Data, trials: dict, until: float) -> bool:
    "Walk the stages; say whether they came to an end."
    best, binned = study.Config(), {}
    for number, stage in enumerate(STAGES):
        tried = [best] + [replace(best, **change) for change in stage]
        for config in tried:
            key = content_key(**config.plain())
            if key not in trials:
                if time.time() > until:
                    return False
                data = data if data.kind == config.rows else study.Data.read(config.rows)
                trials[key] = run(data, config, binned)
                write(trials)
                shown = {k: round(v, 4) for k, v in trials[key]["valid"].items()}
                print(f"stage {number + 1}/{len(STAGES)} {shown} trees {trials[key]['trees']} {trials[key]['seconds']:.0f} s {config}", flush=True)
        best = max(tried, key=lambda c: criterion(trials[content_key(**c.plain())]))
    return True


def blend(data: study.Data, trials: dict) -> None:
    "Judge the averages of the best 3, 5 and 8 configurations, each with and without a ridge on ranks, as trials of their own."
    singles = sorted((k for k, t in trials.items() if "config" in t), key=lambda k: -criterion(trials[k]))
    fit, held = data.span(study.START, study.TRAIN_END, study.GAP), data.judged("2015-01-01", study.VALID_END, study.GAP)
    line = zscore(pd.Series(study.ridge(data, study.Config(), fit, held), data.index[held]))
    for size in (1, 3, 5, 8):
        trees = sum(zscore(pd.read_parquet(KEPT / f"{key}.parquet")["score"]) for key in singles[:size]) / size
        for linear in (0.0, 0.3):
            members = {"members": singles[:size], "linear": linear}
            key = content_key(**members)
            if key in trials or (size == 1 and not linear):
                continue
            scores = ((1 - linear) * zscore(trees) + linear * line).rename("score")
            scores.to_frame().to_parquet(KEPT / f"{key}.parquet")
            trials[key] = {"blend": members, "valid": study.numbers(scores, data.y()[held])}
            write(trials)
            print(f"blend of {size}, ridge {linear:g}: {({k: round(v, 4) for k, v in trials[key]['valid'].items()})}", flush=True)


def record(trials: dict, ledger: Ledger) -> None:
    "Trade every trial's validation scores and put its excess return into the ledger, once."
    known = set(ledger.trials(STUDY)["key"])
    for key, trial in trials.items():
        returns = study.excess(study.account(pd.read_parquet(KEPT / f"{key}.parquet")["score"], "2015-01-01", study.VALID_END))
        trial["valid"] |= study.risk(returns)
        if key not in known:
            moments = return_moments(returns)
            ledger.record("trial", key, STUDY, trial.get("config", trial.get("blend")), moments.n_obs, 238.0, moments.sharpe, moments.skew, moments.kurtosis)
    write(trials)


def search(hours: float) -> None:
    "Search, blend, and record what was looked at."
    data, trials = study.Data.read(), stored()
    if not walk(data, trials, time.time() + 3600 * hours):
        print("time is up; start again to go on")
        return
    blend(data, trials)
    record(trials, Ledger(path("research", "ledger")))
    best = max(trials, key=lambda key: criterion(trials[key]))
    print(f"best of {len(trials)}: {best} {trials[best]}")


if __name__ == "__main__":
    search(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
