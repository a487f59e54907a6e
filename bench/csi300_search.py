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

from quantlab.core.config import root  # noqa: E402
from quantlab.core.ledger import content_key  # noqa: E402

TRIALS = HERE / "results" / "csi300_trials.json"
KEPT = root() / ".cache" / "csi300" / "trials"  # validation scores, for the accounts
STAGES = [
    [{}, {"target": "zscore"}, {"target": "uniform"}],
    [{"features": "raw+extra"}, {"features": "raw+rank"}, {"features": "rank"}],
    [{"horizons": ((1, 0.5), (5, 0.5))}, {"horizons": ((1, 0.7), (3, 0.3))}],
    [{"num_leaves": 32, "min_data": 500}, {"num_leaves": 128, "lambda_l1": 150.0, "lambda_l2": 500.0}, {"feature_fraction": 0.15}, {"bagging": 0.5}],
    [{"half_life": 3.0}, {"start": "2010-01-01"}],
    [{"learning_rate": 0.05, "trees": 400}],
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
    fit, held = data.span(config.start, study.TRAIN_END, config.gap), data.span("2015-01-01", study.VALID_END, study.GAP)
    booster = study.train(data, config, fit, held, binned=binned)
    scores = pd.Series(booster.predict(data.features(config.features)[held], num_threads=1), data.index[held], name="score")
    found = study.numbers(scores, data.y()[held])
    key = content_key(**config.plain())
    KEPT.mkdir(parents=True, exist_ok=True)
    scores.to_frame().to_parquet(KEPT / f"{key}.parquet")
    return {"config": config.plain(), "valid": found, "trees": booster.best_iteration, "seconds": round(time.perf_counter() - began, 1)}


def criterion(trial: dict) -> float:
    return (trial["valid"]["icir"] + trial["valid"]["rank_icir"]) / 2


def search(hours: float) -> None:
    "Walk the stages until they or the time are at an end."
    data, trials, until, binned = study.Data.read(), stored(), time.time() + 3600 * hours, {}
    best = study.Config()
    for number, stage in enumerate(STAGES):
        tried = [best] + [replace(best, **change) for change in stage]
        for config in tried:
            key = content_key(**config.plain())
            if key not in trials:
                if time.time() > until:
                    print("time is up; start again to go on")
                    return
                trials[key] = run(data, config, binned)
                write(trials)
                shown = {k: round(v, 4) for k, v in trials[key]["valid"].items()}
                print(f"stage {number + 1}/{len(STAGES)} {shown} trees {trials[key]['trees']} {trials[key]['seconds']:.0f} s {config}", flush=True)
        best = max(tried, key=lambda c: criterion(trials[content_key(**c.plain())]))
    print(f"best: {best}")


if __name__ == "__main__":
    search(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
