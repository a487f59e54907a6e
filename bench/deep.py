"""Deep models on the CSI 300 beside ridge and LightGBM: the same rows, the same days that stop, several seeds.

Recipe `csi300_published` gives bars, Alpha158, outcomes and account: learned from 2008-2014, stopped on 2015-2016,
judged from 2017 to 2020-08, both borders purged. Each model is an estimator that is walked forward over this one fold
by `deep.seeds`; what stops early holds out the dates of 2015-2016 itself, ridge learns from them too. LightGBM has the
published parameters; the MLP draws half of the published rows in a step and waits for half of the published looks,
because two cores have to do. TCN, GRU and TFT read 20 daily returns less their median, and the features beside them,
in at most 6 passes (TFT: 3). Fits are kept in the cache, so a run that was cut short goes on. Written are the table,
figures by seed, what was earned, and processor time as a ratio to that of ridge; what has no seeds has null as their
spread.

    python bench/deep.py [models, separated by commas] [seeds]
"""

import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.base import clone  # noqa: E402

import quantlab  # noqa: E402
from quantlab.core.errors import ConfigError  # noqa: E402
from quantlab.deep.mlp import MLPModel  # noqa: E402
from quantlab.deep.seeds import compute_table, mean_ranks, run_seeds, seed_evidence, seed_ics, seed_table  # noqa: E402
from quantlab.deep.sequences import SequenceModel, panel_windows  # noqa: E402
from quantlab.deep.tft import TFT  # noqa: E402
from quantlab.models.linear import RidgeModel  # noqa: E402
from quantlab.models.processors import RobustZ, chain  # noqa: E402
from quantlab.recipe.parts import model_of  # noqa: E402
from quantlab.recipe.spec import load  # noqa: E402
from quantlab.recipe.stages import Stages, as_made_elsewhere, dated_rows  # noqa: E402
from quantlab.validation.scores import ic  # noqa: E402

MODELS = ("ridge", "lightgbm", "mlp", "tcn", "gru", "tft")
RESULTS = HERE / "results" / "deep.json"
LOOKBACK = 20  # sessions that a sequence model reads
YEAR = 238.0  # sessions, as Qlib counts


def estimators(spec, share: float, bars: pd.DataFrame) -> dict:
    "Return the models that can be fitted here; `share` of the training dates, the last ones, stops what stops."
    stop = {"validation": share, "purge": 0}  # the rows before those dates are purged already
    trees = clone(model_of(spec)).set_params(num_threads=1, **stop)
    moved = bars["close"].unstack("symbol").pct_change(fill_method=None)
    moved = moved.sub(moved.median(axis=1), axis=0).stack(future_stack=True).reindex(bars.index)
    past = panel_windows(pd.DataFrame({"move": moved.replace([np.inf, -np.inf], np.nan)}), LOOKBACK)
    read = {"past": past, "batch": 2048, "device": "cpu", **stop}
    nets = {kind: SequenceModel(kind, LOOKBACK, epochs=6, patience=2, **read) for kind in ("tcn", "gru")}
    return {
        "ridge": chain(RobustZ(), RidgeModel()),
        "lightgbm": trees,
        "mlp": MLPModel(batch=4096, patience=25, **stop),
        **nets,
        "tft": TFT(3, steps=LOOKBACK, horizon=1, ahead=1, calendar="XSHG", **read),
    }


def excess(chain_: Stages, scores: pd.Series) -> pd.Series:
    "Trade scores by the recipe's rule after costs, and return the account's return less the index's, by date."
    recipe = as_made_elsewhere(chain_.recipe.replace("split.valid_end", ""))  # nothing stops where nothing learns
    made = Stages(recipe, market=chain_.market, scores=scores.to_frame("score"))
    equity = made.account.equity
    own = equity / equity.shift(1).fillna(chain_.recipe.capital) - 1
    return (own - chain_.market.index.pct_change().reindex(own.index)).rename("excess")


def main(names: tuple[str, ...] = MODELS, seeds: int = 3) -> dict:
    "Run the models, write the results and return the table."
    spec = load("csi300_published")
    data = Stages(spec)
    X, known = data.features, data.outcomes
    learn, watch, test = dated_rows(spec, X, known["t1"])
    date = X.index.get_level_values("date")
    rows = np.concatenate([learn, watch])
    share = date[watch].nunique() / date[rows].nunique()
    models = estimators(spec, share, data.market.bars)
    if unknown := set(names) - set(models):
        raise ConfigError(f"no model is called {sorted(unknown)}; use {', '.join(models)}")
    chosen = {name: models[name] for name in names}
    say = lambda done, of, name: print(f"{done}/{of} {name}", flush=True)  # noqa: E731
    told = {"progress": say, "resume": True, "clock": time.process_time}
    runs = run_seeds(chosen, X, known["target"], [(rows, test)], range(seeds), **told)
    y = known["y"].iloc[test]
    table, daily = seed_table(runs, y, horizon=1, baseline="ridge"), seed_ics(runs, y)
    ranked = seed_ics(runs, y, ranked=True)
    accounts = pd.DataFrame({name: excess(data, runs.scores[name]) for name in runs.scores})
    print("accounts done", flush=True)
    mean = pd.DataFrame({name: mean_ranks(runs.scores[name]) for name in names})
    together = {name: mean[name] for name in names}
    if {"lightgbm", "mlp"} <= set(names):
        together["hybrid"] = mean_ranks(mean[["lightgbm", "mlp"]])
    costs = compute_table(table, runs.costs, "ridge")
    scored = {name: float(ic(score, y).mean()) for name, score in together.items()}
    evidence = seed_evidence(accounts.rename_axis(columns=["model", "seed"]), YEAR, runs.costs["draws"])
    return write(names, seeds, table, daily, ranked, evidence, costs, scored)


def write(names, seeds, table, daily, ranked, evidence, costs, averaged_ic) -> dict:
    "Write what was found, rounded so that a file holds no noise of the last digits."
    places = lambda frame, n=6: json.loads(frame.astype("float64").round(n).to_json(orient="index"))  # noqa: E731
    found = {
        "span": [str(daily.index[0].date()), str(daily.index[-1].date())],
        "dates": len(daily),
        "seeds": seeds,
        "version": quantlab.__version__,
        "table": {name: places(table.drop(columns="verdict"))[name] | {"verdict": table.at[name, "verdict"]}
                  for name in names},
        "by_seed": {
            name: {
                str(seed): {"ic": round(float(daily[name][seed].mean()), 6),
                            "rank_ic": round(float(ranked[name][seed].mean()), 6)}
                for seed in daily[name]
            }
            for name in names
        },
        "evidence": places(evidence),
        "compute": places(costs[["cost", "fits_for_one"]], 2),
        "averaged_ic": {name: round(value, 6) for name, value in averaged_ic.items()},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found["table"]


if __name__ == "__main__":
    asked = tuple(sys.argv[1].split(",")) if len(sys.argv) > 1 else MODELS
    print(json.dumps(main(asked, int(sys.argv[2]) if len(sys.argv) > 2 else 3), indent=1))
