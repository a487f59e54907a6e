"""Looks at factors and models: the account against a slow one, one trial for each distinct account, and what is left
after a hundred."""

import json
from math import isnan

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from quantlab.core.ledger import Ledger
from quantlab.report.factor import tranche_returns
from quantlab.report.looks import deflate_look, long_short, looks, looks_sentence, study_trials
from quantlab.report.run import run_report
from quantlab.validation.deflate import deflate


def panel(dates: int, names: int) -> pd.MultiIndex:
    return pd.MultiIndex.from_product(
        [pd.bdate_range("2015-01-01", periods=dates), [f"S{k:03d}" for k in range(names)]], names=["date", "symbol"]
    )


def slow_account(score: pd.Series, step: pd.Series, tranches: int) -> list[float]:
    "The same account in plain Python: no arrays, no cumulative sums."
    dates, names = sorted(score.index.unique("date")), list(score.index.unique("symbol"))
    score, step, weights = score.to_dict(), step.to_dict(), []
    for date in dates:
        there = {n: score[date, n] for n in names if (date, n) in score and np.isfinite(score[date, n])}
        mean = sum(there.values()) / len(there) if there else 0.0
        gross = sum(abs(v - mean) for v in there.values())
        weights.append(
            {n: (v - mean) / gross for n, v in there.items()}
            if gross > 1e-9 * sum(abs(v) for v in there.values())
            else {}
        )
    earned = []
    for t, date in enumerate(dates):
        outcome = {n: step[date, n] for n in names if (date, n) in step and np.isfinite(step[date, n])}
        past = weights[max(t - tranches + 1, 0) : t + 1]
        earned.append(
            sum(w.get(n, 0.0) * y for w in past for n, y in outcome.items()) / tranches if outcome else float("nan")
        )
    return earned[tranches:]


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 12), st.integers(2, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_the_account_is_that_of_plain_python(dates, names, tranches, seed):
    rng = np.random.default_rng(seed)
    index = panel(dates, names)
    score = pd.Series(
        np.where(
            rng.random(len(index)) < 0.3, rng.choice([np.nan, np.inf, 1.0], len(index)), rng.standard_normal(len(index))
        ),
        index,
    )
    step = pd.Series(np.where(rng.random(len(index)) < 0.2, np.nan, rng.standard_normal(len(index)) / 50), index)
    kept = rng.random(len(index)) < 0.9
    if not kept.any():
        return
    score = score[kept]
    found = long_short(score.to_frame("s"), step, tranches)["s"]
    assert np.allclose(found, slow_account(score, step, tranches), rtol=0, atol=1e-12, equal_nan=True)


def test_the_account_is_the_pages():
    index, rng = panel(60, 8), np.random.default_rng(1)
    score, step = (
        pd.Series(rng.standard_normal(len(index)), index),
        pd.Series(rng.standard_normal(len(index)) / 50, index),
    )
    score[rng.random(len(index)) < 0.1] = np.nan
    for tranches in (1, 5, 20):
        pd.testing.assert_series_equal(
            long_short(score.to_frame("gross"), step, tranches)["gross"],
            tranche_returns(score, step, tranches)["gross"],
            check_freq=False,
            rtol=1e-9,
            atol=1e-14,
        )


@pytest.fixture(scope="module")
def nothing() -> pd.DataFrame:
    "Accounts of a hundred scores without knowledge: five years, thirty names."
    index, rng = panel(1260, 30), np.random.default_rng(3)
    step = pd.Series(rng.standard_normal(len(index)) / 50, index)
    return long_short(
        pd.DataFrame(rng.standard_normal((len(index), 100)), index, [f"idea_{k}" for k in range(100)]), step, 5
    )


def test_a_hundred_looks_deflate_the_best(nothing, workspace):
    "Alone it would pass, by far; after a hundred factors of either sign it does not."
    ledger = Ledger(workspace / "ledger.sqlite")
    ratio = nothing.mean() / nothing.std()
    best = ratio.abs().idxmax()
    shown = nothing[best] * np.sign(ratio[best])
    trials = looks(nothing, "ideas", 252, {})
    own = [trial for trial in trials if trial["params"]["looked_at"] == best]
    alone = deflate_look(shown, study_trials(own), either_sign=True)
    assert alone.dsr > 0.95 and alone.n_trials == 1 and alone.n_effective == 2
    for trial in trials:
        ledger.record("trial", **json.loads(json.dumps(trial)))
    after = deflate_look(shown, study_trials(own), either_sign=True)
    assert after.dsr < 0.95 and after.n_trials == 100 and after.n_effective == 200 and after.psr == alone.psr
    assert after.sharpe == pytest.approx(abs(ratio[best])) and 2.5 * ratio.std() < after.benchmark < 3 * ratio.std()
    assert "100 distinct trials" in looks_sentence(after, "ideas", 252) and "either sign" in looks_sentence(
        after, "ideas", 252
    )


def test_of_many_searches_few_convince(nothing):
    "A law: searches among twenty scores without knowledge end above 0.95 at most as often as 5 % allows."
    ratio, passed, alone = nothing.mean() / nothing.std(), 0, 0
    rng = np.random.default_rng(0)
    for _ in range(60):
        chosen = rng.choice(nothing.columns, 20, replace=False)
        best = ratio[chosen].abs().idxmax()
        trials = pd.DataFrame({"key": chosen, "sharpe": ratio[chosen].to_numpy()})
        found = deflate_look(nothing[best] * np.sign(ratio[best]), trials, either_sign=True)
        passed, alone = passed + (found.dsr > 0.95), alone + (found.psr > 0.95)
    assert passed <= 6 and alone >= 50


def test_one_try_in_a_given_sign_is_the_probabilistic_ratio(nothing):
    account = nothing["idea_0"]
    trials = pd.DataFrame(looks(nothing[["idea_0"]], "s", 252, {}))[["key", "sharpe"]]
    found = deflate_look(account, trials)
    ratio, n = account.mean() / account.std(), account.count()
    error = np.sqrt((1 - account.skew() * ratio + (account.kurt() + 2) / 4 * ratio**2) / (n - 1))
    assert found.dsr == found.psr == pytest.approx(norm.cdf(ratio / error), abs=2e-3) and found.benchmark == 0
    many = pd.DataFrame(looks(nothing, "s", 252, {}))[["key", "sharpe"]]
    assert deflate_look(account, many).dsr == pytest.approx(deflate(account, many).dsr), (
        "in given signs it is validation.deflate"
    )


def test_the_account_is_the_key_not_its_name(nothing):
    first, renamed = (
        looks(nothing[["idea_0"]], "s", 252, {"horizon": 5}),
        looks(nothing[["idea_0"]].rename(columns={"idea_0": "other"}), "s", 252, {"horizon": 6}),
    )
    edited = looks(nothing[["idea_1"]].rename(columns={"idea_1": "idea_0"}), "s", 252, {"horizon": 5})
    dust = looks(nothing[["idea_0"]] * (1 + 1e-12), "s", 252, {"horizon": 5})
    assert first[0]["key"] == renamed[0]["key"] == dust[0]["key"] != edited[0]["key"]


def test_trials_count_up_to_a_head_once_each_and_at_one_frequency(nothing, workspace):
    ledger = Ledger(workspace / "ledger.sqlite")
    weekly = looks(nothing[["idea_1"]].iloc[::5], "s", 252 / 5, {})
    head = ledger.record("trial", **weekly[0])
    ledger.record("trial", **looks(nothing[["idea_0"]], "s", 252, {})[0])
    ledger.record("trial", **looks(nothing[["idea_2"]], "another", 252, {})[0])
    now = looks(nothing[["idea_0", "idea_3"]], "s", 252, {})
    assert len(study_trials(now)) == 3, "the one in the ledger is this page's own"
    early = study_trials(now, until=head)
    assert len(early) == 3 and early["sharpe"].iloc[0] == pytest.approx(weekly[0]["sharpe"] / np.sqrt(5))
    assert (
        len(study_trials(looks(nothing[["idea_0", "idea_0"]].T.drop_duplicates().T, "s", 252, {}), until="0" * 64)) == 1
    )


def test_an_account_without_spread_counts_and_moves_nothing(nothing):
    index = panel(30, 4)
    flat = long_short(pd.DataFrame({"constant": 0.1, "missing": np.nan}, index), pd.Series(0.01, index), 3)
    assert (flat == 0).all().all()
    trials = looks(flat, "s", 252, {})
    assert all(isnan(trial["sharpe"]) for trial in trials)
    found = deflate_look(
        nothing["idea_0"], pd.DataFrame(trials + looks(nothing[["idea_0"]], "s", 252, {}))[["key", "sharpe"]]
    )
    assert found.n_trials == 3 and np.isfinite(found.dsr)
    lost = deflate_look(flat["constant"], pd.DataFrame(trials)[["key", "sharpe"]])
    assert isnan(lost.dsr) and "nan" in looks_sentence(lost, "s", 252)


@pytest.mark.slow
def test_a_page_of_a_hundred_empty_factors_and_one_more(workspace, tmp_path, monkeypatch):
    "The factor page itself: a module of random factors, then a real factor in the same study."
    (tmp_path / "empty_factors.py").write_text(
        "import numpy as np, pandas as pd\nfrom zlib import crc32\n\n\n"
        "def one(k):\n"
        "    def factor(bars):\n"
        "        date, symbol = bars.index.get_level_values('date').astype('int64'), "
        "pd.Series(bars.index.get_level_values('symbol')).map(lambda s: crc32(s.encode()))\n"
        "        mixed = (date.to_numpy() // 10**9 * 2654435761 + symbol.to_numpy() * 40503 + k * 97531) % 2**31\n"
        "        return pd.Series(((mixed * 1103515245 + 12345) % 2**31) / 2**31, bars.index)\n"
        "    factor.__name__ = f'empty_{k}'\n"
        "    return factor\n\n\n"
        "FACTORS = [one(k) for k in range(100)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    few = {"universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2015-01-02", "horizon": 5}
    run = run_report("factor", few | {"factor": "empty_factors:FACTORS"}, track=False)
    assert run.metrics["trials"] == 100 and run.metrics["dsr"] < 0.95 and "100 distinct trials" in run.html.read_text()
    again = run_report("factor", few | {"factor": "empty_factors:FACTORS"}, track=False)
    assert again.metrics["trials"] == 100, "the same looks are the same trials"
    more = run_report("factor", few, track=False)
    assert more.metrics["trials"] == 101 and more.metrics["dsr"] < more.metrics["psr"]
    ledger = Ledger(workspace / "ledger.sqlite")
    assert len(ledger.trials("factor/committed sample")) == 101 and ledger.verify() == 204
