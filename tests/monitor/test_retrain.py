"Retraining: the feed halts, both costs by hand, the budget, and every alarm in the ledger once."

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger
from quantlab.data.synth import synth_market
from quantlab.monitor.drift import DriftTest
from quantlab.monitor.retrain import (
    RetrainTerms,
    alarm_probability,
    check_feed,
    decide_retraining,
    drift_alarms,
    expected_fall,
    feed_state,
    trial_cost,
)

DAYS = pd.bdate_range("2023-11-01", "2023-11-30")


def feed(last: str, names: int = 10, lost: int = 0) -> pd.DataFrame:
    "Closes of some names up to a session of the New York exchange; some are lost on the last."
    days = DAYS[(DAYS <= last) & (DAYS != "2023-11-23")]
    index = pd.MultiIndex.from_product([days, [f"S{i:02d}" for i in range(names)]], names=["date", "symbol"])
    bars = pd.DataFrame({"close": 1.0}, index)
    return bars.drop(bars.index[len(bars) - lost :])


@pytest.mark.parametrize(
    ("last", "now", "behind", "said"),
    [
        ("2023-11-22", "2023-11-22 21:00Z", 0, "those of 2023-11-22"),
        ("2023-11-22", "2023-11-22 20:59Z", 0, "which is not over; the last session that is over: 2023-11-21"),
        ("2023-11-22", "2023-11-24 17:59Z", 0, "those of 2023-11-22"),  # Thanksgiving, then half a day
        ("2023-11-22", "2023-11-24 18:00Z", 1, "1 session(s) up to 2023-11-24 are missing"),
        ("2023-11-24", "2023-11-27 09:00-05:00", 0, "those of 2023-11-24"),
        ("2023-11-20", "2023-11-27 12:00Z", 3, "3 session(s) up to 2023-11-24 are missing"),
    ],
)
def test_the_feed_is_compared_with_the_sessions_of_the_exchange(last, now, behind, said):
    state = feed_state(feed(last), pd.Timestamp(now))
    assert state.behind == behind and said in state.reason and state.may_decide == said.startswith("those")
    if state.may_decide:
        assert check_feed(feed(last), pd.Timestamp(now)).equals(feed(last))
    else:
        with pytest.raises(DataError, match="no decision: the bars"):
            check_feed(feed(last), pd.Timestamp(now))


def test_the_vendor_may_take_its_time_and_names_may_not_be_lost():
    now = pd.Timestamp("2023-11-24 20:00Z")
    assert not feed_state(feed("2023-11-22"), now).may_decide
    assert feed_state(feed("2023-11-22"), now, delay="3h").may_decide
    for lost, may in ((0, True), (1, True), (2, False)):
        state = feed_state(feed("2023-11-24", 20, lost), now)
        assert state.may_decide == may and state.absent == lost / 20
    empty = feed("2023-11-24").assign(close=np.nan)
    assert not feed_state(empty, now).may_decide
    whole = feed("2023-11-24")
    symbol, date = whole.index.get_level_values("symbol"), whole.index.get_level_values("date")
    for since in ("2023-11-24", "2023-11-22", "2023-11-17"):  # what stopped days ago is still absent
        stopped = whole[~(symbol.isin(["S00", "S01", "S02"]) & (date >= since))]
        assert feed_state(stopped, now).absent == 0.3 and "30% of the names" in feed_state(stopped, now).reason
    for wrong in ({"now": pd.Timestamp("2023-11-24 20:00")}, {"max_absent": 2.0}):
        with pytest.raises(ConfigError, match="give a time with its zone, and a share"):
            feed_state(feed("2023-11-24"), **({"now": now} | wrong))
    with pytest.raises(DataError, match="1 session"):
        feed_state(feed("2023-11-24").loc["2023-11-24":], now)
    assert feed_state(
        synth_market(3, 10, ic=0.0, calendar="24/7").bars, pd.Timestamp("2015-01-12", tz="UTC"), "24/7"
    ).may_decide


def test_an_alarm_is_right_as_often_as_bayes_says():
    assert alarm_probability(0.05, RetrainTerms(drift_rate=0.1, power=0.9)) == pytest.approx(0.09 / (0.09 + 0.045))
    assert alarm_probability(0.05) == pytest.approx(0.8 / 24 / (0.8 / 24 + 0.05 * 23 / 24))


@pytest.mark.parametrize("mean", [-0.01, 0.0, 0.0005, 0.01])
def test_the_expected_fall_is_the_integral_over_the_posterior(mean):
    rng = np.random.default_rng(1)
    before, since = (pd.Series(rng.normal(0, 0.01, n)) for n in (500, 21))
    before, since = before - before.mean() + 0.0005, since - since.mean() + mean
    error = before.var() * (1 / 500 + 1 / 21)
    like = lambda fall: norm.pdf(fall, 0, 0.0005) * norm.pdf(0.0005 - mean, fall, np.sqrt(error))
    top, all_of_it = (quad(f, low, 0.006)[0] for f, low in ((lambda x: x * like(x), 0.0), (like, -0.006)))
    assert expected_fall(before, since) == pytest.approx(top / all_of_it, rel=1e-4)


def test_the_fall_of_what_does_not_vary_and_of_too_little():
    steady = pd.Series([0.002] * 30)
    assert expected_fall(steady, steady / 2) == pytest.approx(0.001) and expected_fall(steady, steady * 3) == 0
    assert expected_fall(pd.Series([0.01, -0.01] * 10), steady) == 0  # there was no edge
    for before, since in ((steady[:19], steady), (steady, steady[:1]), (steady, steady.replace(0.002, np.inf))):
        with pytest.raises(DataError, match="give 20 and 2 or more"):
            expected_fall(before, since)


def test_a_trial_costs_the_luck_that_it_adds():
    one = pd.Series([0.05])
    assert trial_cost(one, 0.01, 400, RetrainTerms(life=100)) == pytest.approx(100 * 0.01 * 0.05 / np.sqrt(np.pi))
    assert trial_cost(one, 0.01, 400, RetrainTerms(life=100, direct=0.5)) == pytest.approx(
        0.5 + trial_cost(one, 0.01, 400, RetrainTerms(life=100))
    )
    assert trial_cost(pd.Series(dtype=float), 0.01, 400) == trial_cost(one, 0.01, 400)
    two = pd.Series([0.0, 0.2])  # E of the best of three less that of two: 3 / (2 root pi) - 1 / root pi
    assert trial_cost(two, 0.01, 400) == pytest.approx(252 * 0.01 * two.std() * 0.5 / np.sqrt(np.pi), rel=1e-6)
    for wrong in ((0.01, 1), (np.nan, 400), (-0.1, 400)):
        with pytest.raises(DataError, match="a cost needs"):
            trial_cost(one, *wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"drift_rate": 0},
        {"drift_rate": 1},
        {"power": 1.1},
        {"recovery": 0},
        {"review": 0},
        {"life": 0},
        {"direct": -1},
        {"budget": -1},
    ],
)
def test_terms_that_mean_nothing_are_refused(change):
    with pytest.raises(ConfigError):
        RetrainTerms(**change)


SESSIONS = pd.bdate_range("2020-01-01", periods=900, name="date")


def month(i: int, alarm: bool = True) -> DriftTest:
    "The i-th month of 21 sessions after the 500th, with or without an alarm."
    days = SESSIONS[500 + 21 * i : 521 + 21 * i]
    table = pd.DataFrame({"named": [True, False]}, ["f0", "f1"])
    return DriftTest(days[0], days[-1], 1 / 61 if alarm else 0.5, alarm, 0.05, 1.0, np.zeros(60), table)


@pytest.fixture
def study(tmp_path):
    "A ledger with 60 trials, and returns that fall after session 500."
    ledger, rng = Ledger(tmp_path / "ledger.sqlite"), np.random.default_rng(3)
    for i, sharpe in enumerate(rng.normal(0.03, 0.03, 60)):
        ledger.record("trial", f"t{i}", "s", {"i": i}, 500, 252, sharpe, 0.0, 3.0)
    noise = rng.normal(0, 0.01, 900)
    noise[:500] -= noise[:500].mean()
    return ledger, pd.Series(noise + np.where(np.arange(900) < 500, 0.001, -0.002), SESSIONS)


def test_every_alarm_is_a_row_and_the_budget_ends(study):
    ledger, returns = study
    terms = RetrainTerms(budget=2, recovery=1.0, drift_rate=0.3)
    answers = [decide_retraining(month(i), returns, ledger, "s", terms) for i in range(4)]
    assert [a.action for a in answers] == ["retrain", "retrain", "wait", "wait"] and [a.left for a in answers] == [
        2,
        1,
        0,
        0,
    ]
    assert "budget of 2" in answers[2].reason and answers[2].waiting > answers[2].trial
    table = drift_alarms(ledger, "s")
    assert table["end"].tolist() == [month(i).end for i in range(4)] and table["action"].tolist() == [
        a.action for a in answers
    ]
    assert table["named"].tolist() == [["f0"]] * 4 and table["terms"].iloc[0]["budget"] == 2
    later = decide_retraining(month(14), returns, ledger, "s", terms)
    assert later.left == 2, "the budget is that of the last 365 days"
    ledger.verify()
    assert len(ledger.trials("s")) == 60, "an alarm is no trial"


def test_the_same_month_is_answered_and_written_once(study):
    ledger, returns = study
    first = decide_retraining(month(0), returns, ledger, "s")
    again = decide_retraining(month(0), returns - 0.01, ledger, "s", RetrainTerms(budget=0))
    assert first == again and len(drift_alarms(ledger, "s")) == 1 and drift_alarms(ledger, "other").empty


def test_the_costs_decide(study):
    ledger, returns = study
    found = decide_retraining(month(0), returns, ledger, "s")
    before, since = returns.iloc[:500], returns.iloc[500:521]
    assert found.waiting == pytest.approx(alarm_probability(0.05) * 0.5 * 21 * expected_fall(before, since))
    assert found.trial == pytest.approx(trial_cost(ledger.trials("s")["sharpe"], before.std(), 500))
    assert (found.action == "retrain") == (found.waiting > found.trial)
    dear = decide_retraining(month(1), returns, ledger, "s", RetrainTerms(direct=1.0))
    assert dear.action == "wait" and "one more trial" in dear.reason


def test_a_stale_feed_halts_and_the_month_may_be_asked_again(study):
    ledger, returns = study
    behind = feed_state(feed("2023-11-20"), pd.Timestamp("2023-11-27 12:00Z"))
    halted = decide_retraining(month(0), returns, ledger, "s", feed=behind)
    assert halted.action == "halt" and halted.reason == behind.reason and len(drift_alarms(ledger, "s")) == 1
    assert decide_retraining(month(0, False), returns, ledger, "q", feed=behind).action == "halt"
    assert drift_alarms(ledger, "q").empty, "no alarm, no row"
    there = decide_retraining(month(0), returns, ledger, "s", feed=replace(behind, may_decide=True))
    assert there.action in ("retrain", "wait") and drift_alarms(ledger, "s")["action"].tolist() == [
        "halt",
        there.action,
    ]


def test_a_feed_that_stays_late_is_written_once(study):
    ledger, returns = study
    for now in ("2023-11-27 12:00Z", "2023-11-28 12:00Z", "2023-11-29 12:00Z"):
        behind = feed_state(feed("2023-11-20"), pd.Timestamp(now))
        assert decide_retraining(month(0), returns, ledger, "s", feed=behind).action == "halt"
    assert drift_alarms(ledger, "s")["action"].tolist() == ["halt"]


def test_trials_that_the_ledger_does_not_hold_are_counted(study):
    ledger, returns = study
    own, before = ledger.trials("s")["sharpe"], returns.iloc[:500]
    more = pd.Series(np.linspace(-0.05, 0.05, 30))
    found = decide_retraining(month(0), returns, ledger, "s", tried=more)
    assert found.trial == pytest.approx(trial_cost(pd.concat([own, more]), before.std(), 500))
    alone = decide_retraining(month(0), returns, ledger, "nobody's", tried=more)
    assert alone.trial == pytest.approx(trial_cost(more, before.std(), 500))


def test_without_an_alarm_nothing_is_written(study):
    ledger, returns = study
    head = ledger.head()
    assert decide_retraining(month(0, False), returns, ledger, "s").action == "none" and ledger.head() == head
    row = json.loads(ledger.rows()["params"].iloc[-1])
    assert "action" not in row
