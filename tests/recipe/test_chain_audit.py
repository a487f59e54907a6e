"A leak planted in each stage of a recipe is named with its stage, and a clean chain raises no alarm."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from leaky_parts import TREES, halted, small, with_model

from quantlab.backtest.engine import from_weights
from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS
from quantlab.core.counterfactual import CHANGES
from quantlab.recipe import stages
from quantlab.recipe.chain_audit import audit_recipe, chain_cuts, cut_market, false_market
from quantlab.recipe.parts import costs_and_rules
from quantlab.recipe.stages import Stages
from quantlab.validation.splits import WalkForward


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "Begin with an empty cache that the tests of this file share."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def market():
    return Stages(small()).market


def named(verdict, stage):
    "Say whether a verdict names a leak of a stage with column and date, in words too."
    assert verdict.status == LEAK, str(verdict)
    assert verdict.stage == stage, str(verdict)
    assert str(verdict).startswith(f"LEAK small: stage {stage}: column {verdict.column} on {verdict.date:%Y-%m-%d}")
    return True


# ---------------------------------------------------------------- seven leaks


def test_a_feature_that_reads_tomorrow(market):
    verdict = audit_recipe(small(features__transform=["rank", "leaky_parts:tomorrows_row"]), 2, market)
    assert named(verdict, "features") and verdict.column in {f.name for f in stages.features_of(("price",))}
    dates = market.bars.index.unique("date")
    assert verdict.date in dates and verdict.date <= max(chain_cuts(Stages(small(), market=market), 2))


def test_a_feature_that_is_refused_at_the_door(market):
    verdict = audit_recipe(small(features__use=["leaky_parts:TOMORROW"]), 2, market)
    assert (verdict.status, verdict.stage) == (LEAK, "features") and "tomorrow" in str(verdict)
    beside = audit_recipe(small(features__use=["price", "leaky_parts:TOMORROW"]), 2, market)
    assert beside.status == PASS and "1 of " in beside.reason and "left out" in beside.reason


def test_a_label_that_ends_too_early(market):
    verdict = audit_recipe(small(label__kind="leaky_parts:ends_too_early", label__target="none"), 2, market)
    assert named(verdict, "outcomes") and verdict.column in ("y", "target")


def _careless_folds(embargo, span):
    def folds(recipe, X, t1):
        s = recipe.split
        if not span:
            t1 = pd.Series(X.index.get_level_values("date"), X.index)
        return list(WalkForward(s.train_sessions, s.test_sessions, embargo, s.expanding).split(X, t1=t1))

    return folds


@pytest.mark.parametrize(("embargo", "span"), [(0, False), (5, False), (0, True)])
def test_folds_that_ignore_the_embargo_or_where_labels_end(market, monkeypatch, embargo, span):
    monkeypatch.setattr(stages, "folds", _careless_folds(embargo, span))
    verdict = audit_recipe(small(), 2, market)
    assert named(verdict, "folds") and verdict.column in ("target", "rows")


def test_a_model_that_is_fitted_on_all_rows(market, monkeypatch):
    honest = stages.fit_and_score

    def careless(recipe, X, known, windows, progress=None):
        return honest(recipe, X, known, [(np.arange(len(X)), test) for _, test in windows], progress)

    monkeypatch.setattr(stages, "fit_and_score", careless)
    assert named(audit_recipe(small(), 2, market), "fits")


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("markov", "changepoint", "hmm")]


@pytest.mark.parametrize("kind", ["hmm", "jump", *SLOW[:2]])
def test_a_regime_that_was_smoothed(market, monkeypatch, kind):
    honest = stages.regime

    def smoothed(recipe, market):
        filtered = honest(recipe, market)
        mean = filtered.probabilities.rolling(61, center=True, min_periods=1).mean()
        return replace(filtered, probabilities=mean.div(mean.sum(axis=1), axis=0))

    monkeypatch.setattr(stages, "regime", smoothed)
    assert named(audit_recipe(small(regime__kind=kind, regime__n_states=2), 2, market), "regime")


@pytest.mark.parametrize("kind", ["jump", SLOW[0], SLOW[2]])
def test_the_offline_answer_of_a_detector(market, monkeypatch, kind):
    "Its own hindsight, fitted on the past all the same: the path through all rows there are."
    honest = stages.walk_forward_filter

    def offline(X, model, first, refit):
        filtered, fitted = honest(X, model, first, refit), type(model)(**model.get_params()).fit(X.iloc[:first])
        table = fitted.smooth(X).probabilities.loc[filtered.probabilities.index]
        return replace(filtered, probabilities=pd.DataFrame(table.to_numpy(), table.index, table.columns), ahead=None)

    monkeypatch.setattr(stages, "walk_forward_filter", offline)
    assert named(audit_recipe(small(regime__kind=kind, regime__n_states=2), 4, market), "regime")


def test_a_detector_of_ones_own_that_reads_ahead(market):
    assert named(audit_recipe(small(regime__kind="leaky_parts:hindsight"), 2, market), "regime")


MIXED = small(signals__experts=["model", "rev_5", "-max_21"], signals__lookback=126)


def test_a_fusion_that_learns_from_outcomes_not_yet_known(market, monkeypatch):
    honest = stages.mixture_of_experts

    def careless(opinions, y, t1, *more):
        dates = pd.Series(y.index.get_level_values("date"), y.index)  # each outcome as if known at its decision
        return honest(opinions, y, dates.where(y.notna()), *more)

    monkeypatch.setattr(stages, "mixture_of_experts", careless)
    verdict = audit_recipe(MIXED, 2, market)
    assert named(verdict, "signals") and verdict.column in ("score", "doubt")


def test_an_expert_that_believes_what_came(market):
    recipe = small(signals__experts=["model", "leaky_parts:told_expert"])
    assert named(audit_recipe(recipe, 2, market), "signals")


def test_a_score_that_is_smoothed_both_ways(market, monkeypatch):
    honest = stages.decay_scores

    def centred(said, half_life):
        return (
            honest(honest(said, half_life)[::-1].sort_index(), half_life)
            .groupby(level="symbol")
            .transform(lambda s: s.rolling(5, center=True, min_periods=1).mean())
        )

    monkeypatch.setattr(stages, "decay_scores", centred)
    assert named(audit_recipe(small(signals__half_life=5), 2, market), "signals")


def test_confidence_that_knows_all_widths(market, monkeypatch):
    def careless(width, lookback=252, dates=None):
        return 1.0 - width.rank(pct=True)

    monkeypatch.setattr(stages, "confidence", careless)
    verdict = audit_recipe(MIXED.replace("signals.confidence", True), 2, market)
    assert named(verdict, "weights") and verdict.column == "weight"


def test_a_policy_that_reads_tomorrows_rank(market):
    verdict = audit_recipe(small(policy__kind="leaky_parts:tomorrows_rank"), 2, market)
    assert named(verdict, "weights") and verdict.column in ("weight", "rows")


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
def test_a_fill_at_the_close_that_decided(market, monkeypatch, fill):
    def account(recipe, bars, decided):
        dates = bars.index.unique("date")
        place = dates.get_indexer(decided.index.get_level_values("date"))
        early = dates[np.maximum(place - 1, 0)]  # sent a session early, so that it fills at the close that decided
        levels = [early, decided.index.get_level_values("symbol")]
        sent = decided.set_axis(pd.MultiIndex.from_arrays(levels, names=["date", "symbol"]))
        terms = costs_and_rules(recipe.replace("fill", "same_close"))
        return from_weights(sent[place > 0], bars, **terms)

    monkeypatch.setattr(stages, "account", account)
    assert named(audit_recipe(small(fill=fill), 2, market), "account")


# ---------------------------------------------------------------- no alarm


@pytest.mark.parametrize(
    "recipe",
    [
        small(),
        small(regime__kind="hmm", sizing__vol_target=0.1, data__periods_per_year=252),
        small(policy__kind="leaky_parts:todays_rank"),
        small(fill="same_close"),
        with_model("gbm", **TREES),
        with_model("feature", column="mom_126_21"),
        MIXED.replace(regime__kind="hmm", signals__half_life=10, signals__confidence=True),
        small(regime__kind="leaky_parts:foresight_free", policy__kind="long_short"),
    ],
    ids=["ridge", "hmm", "policy", "same_close", "gbm", "feature", "signals", "long and short"],
)
def test_a_clean_chain_raises_no_alarm(market, recipe):
    verdict = audit_recipe(recipe, 2, halted(market))
    assert verdict.status == PASS and verdict.stage is None, str(verdict)
    assert verdict.cuts == 2 and "account" in verdict.reason


def test_everything_is_fitted_again_when_asked(market):
    assert audit_recipe(small(), 1, market, fresh=True).status == PASS


# ---------------------------------------------------------------- its own parts


def test_a_false_market_is_true_up_to_its_cut(market):
    cut = market.bars.index.unique("date")[400]
    ended = cut_market(market, cut)
    for change in CHANGES:
        false = false_market(market, cut, change)
        again = cut_market(false, cut)
        pd.testing.assert_frame_equal(again.bars, ended.bars)
        pd.testing.assert_frame_equal(again.raw, ended.raw)
        pd.testing.assert_series_equal(again.index, ended.index)
        assert not false.bars.equals(market.bars) and not false.index.equals(market.index)


def test_what_cannot_be_carried_out_is_not_assessed():
    verdict = audit_recipe(small(end="2010-06-30"))
    assert verdict.status == NOT_ASSESSED and "DataError" in verdict.reason
