"What travels with the committed recipes: their tries, openings, return series and figures are what a run says."

import json
import runpy

import numpy as np
import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import ConfigError
from quantlab.core.ledger import Ledger
from quantlab.recipe.evidence import OPENED, known_trials, read_trials, save_trials, trial_returns, trials_file
from quantlab.recipe.market import store_folder
from quantlab.recipe.spec import load, recipe_names
from quantlab.report.tearsheet import chosen_and_held_out, searched_text
from quantlab.validation.inference import return_moments

FIGURES = runpy.run_path(f"{root()}/scripts/recipe_metrics.py")


def same(stored, found, where=""):
    "Compare two trees of figures."
    if isinstance(stored, dict):
        assert set(stored) == set(found), where
        for name in stored:
            same(stored[name], found[name], f"{where}.{name}")
    else:
        assert found == (pytest.approx(stored, rel=1e-9, abs=1e-12) if isinstance(stored, float) else stored), where


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_its_figures(name):
    assert json.loads(FIGURES["metrics_file"](name).read_text())["recipe"] == name


def test_the_figures_of_momentum_are_those_of_a_run():
    same(json.loads(FIGURES["metrics_file"]("momentum").read_text()), FIGURES["fresh"]("momentum"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "momentum"])
def test_the_figures_are_those_of_a_run(name):
    if load(name).data.source.startswith("qlib:"):
        try:
            store_folder(load(name).data.source)
        except ConfigError as error:
            pytest.skip(str(error))
    same(json.loads(FIGURES["metrics_file"](name).read_text()), FIGURES["fresh"](name))


@pytest.fixture(scope="module")
def tried():
    return read_trials(trials_file("default"))


def test_the_search_of_the_default_travels(tried):
    opened, trials = tried[tried["study"] == OPENED], tried[tried["kind"] == "trial"]
    assert len(opened) == 1 and trials["key"].nunique() > 700
    facts = json.loads(opened["params"].iloc[0])
    chosen = trials[(trials["key"] == facts["key"]) & (trials["study"] == facts["study"])]
    assert len(chosen) and (chosen["seq"] < opened["seq"].iloc[0]).all(), "tries of the search, before the look"
    said, spec = json.loads(chosen["params"].iloc[0]), load("default")
    assert said["data"]["end"] == spec.chosen_until
    assert said["label"] == {"horizon": spec.label.horizon, "target": spec.label.target}
    assert said["policy"] == {"rebalance": spec.policy.rebalance, "top_k": spec.policy.top_k}
    before = trials[trials["seq"] < opened["seq"].iloc[0]]
    ends = before["params"].map(lambda text: json.loads(text)["data"]["end"])
    assert ends.max() <= spec.chosen_until, "nothing after it was looked at before the years were opened"


def test_no_try_of_its_family_that_was_made_on_both_data_does_better(tried):
    "Fama and MacBeth on base: the largest mean of both Sharpe ratios of the excess. No row of a trial holds an IC."
    opened = tried["seq"][tried["study"] == OPENED].iloc[0]
    rows = tried[tried["study"].str.endswith("/excess") & (tried["seq"] < opened)]
    found = {}
    for source, scale in (("committed sample", 1), ("us500_2000_2009.parquet", 3)):
        for row in rows[rows["study"] == f"default/{source}/excess"].itertuples():
            said = json.loads(row.params)
            if said.get("model", {}).get("kind") != "fama_macbeth" or said.get("features", {}).get("use", ["base"]) != [
                "base"
            ]:
                continue
            held = said.get("policy", {}).get("top_k", 30 if scale == 1 else 100)
            setting = json.dumps(
                [said.get("label"), said.get("split"), said.get("policy", {}).get("rebalance"), said.get("sizing")]
            )
            found.setdefault((setting, held in (15, 50)), {})[source] = row.sharpe
    both = {setting: np.mean(list(pair.values())) for setting, pair in found.items() if len(pair) == 2}
    best = max(both, key=both.get)
    assert len(both) > 20 and '"normal"' in best[0] and '"horizon": 10' in best[0] and best[1]


def test_committed_series_are_those_of_their_rows(tried):
    study = "default/committed sample/excess"
    series = trial_returns(trials_file("default"), study)
    rows = tried[tried["study"] == study].set_index("key")
    assert series.shape[1] > 350
    for key in series.columns[::25]:
        r = series[key].dropna()
        first = rows.loc[[key]].iloc[0]  # a run that was made twice has two rows
        assert len(r) == first["n_obs"] and return_moments(r).sharpe == pytest.approx(first["sharpe"], abs=1e-4)


def test_every_committed_try_counts_where_the_choice_was_made_and_none_elsewhere(tmp_path):
    spec, ledger = load("default"), Ledger(tmp_path / "none.sqlite")
    _, here = known_trials(spec, "default/committed sample/excess", ledger)
    _, elsewhere = known_trials(spec, "default/mine.csv/excess", ledger)
    assert here["key"].nunique() > 700 and elsewhere.empty
    assert set(here["study"].str.rpartition("/")[2]) == {"excess"}


@pytest.mark.parametrize("name", ["csi300", "us"])
def test_tries_on_a_store_count_where_that_store_is_read(name, tmp_path):
    spec, ledger = load(name), Ledger(tmp_path / "none.sqlite")
    tried = read_trials(trials_file(name))
    said = tried["key"][tried["study"].str.endswith("/excess")].nunique()
    _, known = known_trials(spec, f"{spec.study}/{spec.data.source}/excess", ledger)
    assert known["key"].nunique() == said > 20
    assert json.loads(FIGURES["metrics_file"](name).read_text())["trials"] >= said
    _, elsewhere = known_trials(spec, f"{spec.study}/qlib:other/excess", ledger)
    assert elsewhere.empty


def test_openings_and_series_are_saved_with_their_study(tmp_path):
    ledger, days = Ledger(tmp_path / "l.sqlite"), pd.bdate_range("2020-01-01", periods=50)
    for name in ("mine", "other"):
        ledger.record("trial", name, f"{name}/sample/excess", {}, 50, 252.0, 0.1, 0.0, 3.0)
        ledger.record("run", f"open {name}", OPENED, {"study": f"{name}/sample/excess", "key": name})
    frame = pd.DataFrame({"strategy": 0.02, "equal weight": 0.01}, days)
    assert save_trials(tmp_path / "t.parquet", ledger, "mine", {"mine": frame}) == 2
    rows = read_trials(tmp_path / "t.parquet")  # a count beside a row without one is still what was hashed
    assert rows["key"].tolist() == ["mine", "open mine"]
    np.testing.assert_allclose(trial_returns(tmp_path / "t.parquet", "mine/sample/excess")["mine"], 0.01, rtol=1e-6)


def test_the_page_says_how_a_recipe_was_chosen():
    said = searched_text(load("default"))
    assert "opened once" in said and "us500_2000_2009" in said and "not to every eye" in said
    assert "not known" in searched_text(load("momentum"))


@pytest.mark.parametrize("until", ["2019-12-31", "2020-01-02", "2020-03-09", "2030-01-01"])
def test_years_before_and_after_are_told_apart_and_a_side_without_sessions_is_left_out(until):
    days = pd.bdate_range("2020-01-01", periods=50)
    returns = pd.DataFrame(np.random.default_rng(3).normal(0, 0.01, (50, 2)), days, ["strategy", "equal weight"])
    shown = chosen_and_held_out(returns, pd.Series(0.1, days), until, 252, 5)
    sides = {"chosen on": int((days <= until).sum()), "held out": int((days > until).sum())}
    assert {c.split(",")[0] for c in shown} == {name for name, n in sides.items() if n > 1}
    for column in shown:
        assert shown.at["sessions", column] == str(sides[column.split(",")[0]])
