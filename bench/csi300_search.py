"""Search a better configuration on the CSI 300 study, judged on 2015-2016 alone; then fit the chosen one for the
published test span.

Usage: python bench/csi300_search.py [hours]                                  search, or go on with it
       python bench/csi300_search.py fixed|rolling|purged FIRST STOP
                            fit and judge seeds FIRST to STOP - 1 of a line of the table

Stage by stage, the best so far is changed in one respect at a time. The criterion is the mean of ICIR and rank ICIR
over the validation years, not of the ICs: a level can come from one style that paid in one of the two years, steadiness
less so. Each trial is stored as soon as it is known, so a killed search goes on where it stopped. No row after 2016 is
read by a trial.
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

TRIALS, MODELS = HERE / "results" / "csi300_trials.json", HERE / "results" / "csi300_models.json"
STUDY = "csi300/valid"
KEPT = root() / ".cache" / "csi300" / "trials"  # validation scores, for the accounts
FITTED = KEPT.parent / "fits"  # test scores of the final fits
STAGES = [
    [{}, {"target": "zscore"}, {"target": "uniform"}],
    [{"features": "raw+extra"}, {"features": "raw+rank"}, {"features": "rank"}],
    [{"horizons": ((1, 0.5), (5, 0.5))}, {"horizons": ((1, 0.7), (3, 0.3))}],
    [
        {"num_leaves": 32, "min_data": 500},
        {"num_leaves": 128, "lambda_l1": 150.0, "lambda_l2": 500.0},
        {"feature_fraction": 0.15},
        {"bagging": 0.5},
    ],
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
    fit, held = (
        data.span(config.start, study.TRAIN_END, config.gap),
        data.judged("2015-01-01", study.VALID_END, study.GAP),
    )
    booster = study.train(data, config, fit, held, binned=binned)
    scores = study.predict(data, config, booster, held)
    key = content_key(**config.plain())
    KEPT.mkdir(parents=True, exist_ok=True)
    scores.to_frame().to_parquet(KEPT / f"{key}.parquet")
    found = study.numbers(scores, data.y()[held])
    return {
        "config": config.plain(),
        "valid": found,
        "trees": booster.best_iteration,
        "seconds": round(time.perf_counter() - began, 1),
    }


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
                print(
                    f"stage {number + 1}/{len(STAGES)} {shown} trees {trials[key]['trees']} "
                    f"{trials[key]['seconds']:.0f} s {config}",
                    flush=True,
                )
        best = max(tried, key=lambda c: criterion(trials[content_key(**c.plain())]))
    return True


def blend(data: study.Data, trials: dict) -> None:
    """Judge the averages of the best 3, 5 and 8 configurations, each with and without a ridge on ranks, as trials of
    their own."""
    singles = sorted((k for k, t in trials.items() if "config" in t), key=lambda k: -criterion(trials[k]))
    fit, held = (
        data.span(study.START, study.TRAIN_END, study.GAP),
        data.judged("2015-01-01", study.VALID_END, study.GAP),
    )
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
            print(
                f"blend of {size}, ridge {linear:g}: { ({k: round(v, 4) for k, v in trials[key]['valid'].items()}) }",
                flush=True,
            )


def record(trials: dict, ledger: Ledger) -> None:
    "Trade every trial's validation scores and put its excess return into the ledger, once."
    known = set(ledger.trials(STUDY)["key"])
    for key, trial in trials.items():
        returns = study.excess(
            study.account(pd.read_parquet(KEPT / f"{key}.parquet")["score"], "2015-01-01", study.VALID_END)
        )
        trial["valid"] |= study.risk(returns)
        moments = return_moments(returns)
        trial["moments"] = {
            "n_obs": int(moments.n_obs),
            "sharpe": moments.sharpe,
            "skew": moments.skew,
            "kurtosis": moments.kurtosis,
        }
        if key not in known:
            ledger.record(
                "trial",
                key,
                STUDY,
                trial.get("config", trial.get("blend")),
                moments.n_obs,
                238.0,
                moments.sharpe,
                moments.skew,
                moments.kurtosis,
            )
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


def chosen(trials: dict) -> tuple[str, list[study.Config]]:
    "Return the key of the best trial and the configurations it is made of."
    key = max(trials, key=lambda k: criterion(trials[k]))
    members = trials[key]["blend"]["members"] if "blend" in trials[key] else [key]
    if trials[key].get("blend", {}).get("linear"):
        raise NotImplementedError("the final fits know no ridge; the best blend had none when this was written")
    made = [
        {
            **trials[m]["config"],
            "horizons": tuple(tuple(h) for h in trials[m]["config"]["horizons"]),
            "trees": trials[m]["trees"],
        }
        for m in members
    ]
    return key, [study.Config(**config) for config in made]


PERIODS = {  # line -> (last training day, first and last day predicted)
    "fixed": [("2014-12-31", "2017-01-01", study.TEST_END)],
    "rolling": [
        (f"{year - 1}-12-31", f"{year}-01-01", min(f"{year}-12-31", study.TEST_END))
        for year in (2017, 2018, 2019, 2020)
    ],
}


def fits(line: str, seeds: range) -> None:
    """Fit the chosen configurations, period by period, all seeds on the same binned rows; what is stored is not
    fitted again."""
    _, configs = chosen(stored())
    data = None
    for number, config in sorted(enumerate(configs), key=lambda pair: (pair[1].rows, pair[1].features)):
        for last, *test in PERIODS[line]:
            file, binned = FITTED / f"{line}-{seeds.start}-{seeds.stop}-{test[0][:4]}-{number}.parquet", {}
            if file.exists():
                continue
            data = data if data is not None and data.kind == config.rows else study.Data.read(config.rows)
            rows, held, scores, began = data.span(config.start, last, config.gap), data.judged(*test), {}, time.time()
            for seed in seeds:
                booster = study.train(data, config, rows, None, seed, trees=config.trees, binned=binned)
                scores[str(seed)] = zscore(study.predict(data, config, booster, held))
            file.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(scores).to_parquet(file)
            print(
                f"{line}, member {number + 1} of {len(configs)}, to {last}: "
                f"{len(seeds)} seeds in {time.time() - began:.0f} s",
                flush=True,
            )


def judge(line: str, batches: list[range]) -> dict[str, dict]:
    "Return the numbers of every seed on the published test span, and of the mean of all seeds."
    y, found, every = study.Data.read().y(), {}, []
    members = range(len(chosen(stored())[1]))
    for seeds in batches:
        name = lambda year, n, seeds=seeds: FITTED / f"{line}-{seeds.start}-{seeds.stop}-{year}-{n}.parquet"
        parts = [
            sum(pd.read_parquet(name(test[0][:4], n)) for n in members) / len(members) for _, *test in PERIODS[line]
        ]
        every.append(pd.concat(parts).sort_index())
    scores = pd.concat(every, axis=1)
    for seed in [*scores, "mean of the seeds"]:
        column = (scores.mean(axis=1) if seed not in scores else scores[seed]).rename("score")
        returns = study.excess(study.account(column, "2017-01-01", study.TEST_END))
        found[seed] = study.numbers(column, y.reindex(column.index)) | study.risk(returns)
    found["mean of the seeds"]["daily_excess"] = [round(value, 7) for value in returns]
    return found


def purged(seeds: range) -> dict[str, dict[int, dict]]:
    "Fit the published parameters on the published split and with both borders purged."
    data, found = study.Data.read(), {}
    held = data.judged("2017-01-01", study.TEST_END)
    for name, gap in {"published split": 0, "purged split": study.GAP}.items():
        for seed in seeds:
            scores = study.predict(data, study.Config(), study.train_published(data, seed, gap), held)
            found.setdefault(name, {})[seed] = study.numbers(scores, data.y()[held]) | study.risk(
                study.excess(study.account(scores, "2017-01-01", study.TEST_END))
            )
            print(name, seed, {k: round(v, 4) for k, v in found[name][seed].items()}, flush=True)
    return found


def final(line: str, first: int, stop: int) -> None:
    "Fit and judge one line of the final table: fixed, rolling or purged; the seeds judged are all that are stored."
    models = json.loads(MODELS.read_text()) if MODELS.exists() else {}
    if line == "purged":
        models |= purged(range(first, stop))
    else:
        fits(line, range(first, stop))
        spans = sorted({tuple(map(int, f.stem.split("-")[1:3])) for f in FITTED.glob(f"{line}-*-*-*-*.parquet")})
        models[line] = judge(line, [range(*span) for span in spans])
        models["chosen"] = chosen(stored())[0]
    MODELS.write_text(json.dumps(models, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        final(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        search(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
