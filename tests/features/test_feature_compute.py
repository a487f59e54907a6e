"One kind of feature: what compute takes, how often it moves a number, and what it refuses."

import numpy as np
import pandas as pd
import pytest
from test_price_and_vol_invariants import market, same

import quantlab.features.base as base
import quantlab.features.block as block
from quantlab.core.audit import LEAK, PASS, _ByColumn, audit, named_columns
from quantlab.core.errors import ConfigError, LeakError, PanelError
from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.alpha158 import ALPHA158
from quantlab.features.base import Feature, as_features, check_feature, compute, describe_features
from quantlab.features.block import Group
from quantlab.features.sets import SETS, feature_set
from quantlab.features.transform import rolling_scored, rolling_zscore
from quantlab.features.vol import amihud, dollar_volume, volatility

BARS = market(21, n_dates=60)
DAILY = Feature("ret_1", lambda close: close / close.shift() - 1, 1, "close")


def day(b):
    return b.high / b.low - 1, (b.close - b.low) / (b.high - b.low)


RANGE, PLACE = Group(("range", "place"), day, 0, ("high", "low", "close")).features()


@pytest.fixture
def moved(monkeypatch) -> dict[str, int]:
    "Count the numbers that are spread into arrays and gathered back, and the calls over the whole panel."
    seen = {"spread": 0, "gathered": 0, "whole": 0}

    def scatter(values, rows, at, array, original=base.scatter):
        seen["spread"] += len(rows)
        seen["whole"] += len(rows) == len(values)
        original(values, rows, at, array)

    def gather(array, at, place, largest, out, original=base.gather):
        seen["gathered"] += len(place)
        original(array, at, place, largest, out)

    for module in (base, block):
        monkeypatch.setattr(module, "scatter", scatter)
        monkeypatch.setattr(module, "gather", gather)
    return seen


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (SETS["base"], 5),  # 26 spreads before every column was spread once
        (SETS["technical"], 4),
        (ALPHA158, 6),
        (SETS["base"] + ALPHA158, 7),
        ([*SETS["range_vol"], PLACE, DAILY], 4),
    ],
    ids=["base", "technical", "alpha158", "base and alpha158", "mixed"],
)
def test_each_column_is_spread_once_and_each_value_gathered_once(moved, features, columns) -> None:
    bars = market(3, n_dates=80, symbols="".join(chr(65 + i) for i in range(40))).assign(vwap=1.0)  # two blocks
    values = compute(bars, features)
    assert moved["spread"] == columns * len(bars)
    assert moved["gathered"] == values.size
    moved.update(gathered=0)
    some = compute(bars, features, rows=np.arange(len(bars)) % 3 == 0)
    assert moved["gathered"] == some.size


def test_a_feature_that_another_reads_spreads_nothing_anew(moved) -> None:
    risk = volatility(8)
    compute(BARS, [risk, rolling_scored(risk, 5), rolling_scored(risk, 9)])
    assert moved["spread"] == len(BARS) and moved["whole"] == 1
    assert moved["gathered"] == 4 * len(BARS)  # the three, and once what two of them read


def test_a_mix_gives_what_each_gives_alone() -> None:
    own = lambda bars: np.log(bars["volume"])
    own.__name__ = "size"
    features = [PLACE, DAILY, own, amihud(6), RANGE, rolling_scored(DAILY, 8)]
    both = compute(BARS, features)
    assert list(both) == ["place", "ret_1", "size", "amihud_6", "range", "ret_1_z8"]
    for f in as_features(features):
        pd.testing.assert_series_equal(both[f.name], f(BARS), check_exact=True)


def test_one_a_list_and_plain_functions() -> None:
    def gap(open_, close):
        return open_ / close.shift() - 1

    def wide(bars):
        return bars["open"] / bars["close"].groupby("symbol").shift() - 1

    whole = market(21, missing=0)
    assert same(compute(whole, gap)["gap"], compute(whole, [wide])["wide"])
    assert compute(BARS, DAILY).equals(compute(BARS, [DAILY])) and compute(BARS, []).shape == (len(BARS), 0)
    assert as_features(gap)[0].inputs == ("open", "close") and as_features([wide])[0].inputs == ("bars",)
    extra = compute(BARS.assign(news=1.0), lambda news: 2 * news)
    assert extra.iloc[:, 0].eq(2).all()  # a column of one's own counts
    assert compute(BARS, lambda close, n=3: close.shift(n) / close).notna().any(axis=None)
    with pytest.raises(ConfigError, match="is no feature"):
        compute(BARS, ["ret_1"])


def test_a_plain_function_is_held_to_the_suite() -> None:
    def peek(close):
        return close.shift(-1) / close

    def week(close):
        return close / close.shift(5)

    with pytest.raises(LeakError):
        check_feature(peek, BARS)
    with pytest.raises(PanelError, match="more than its lookback of 0"):
        check_feature(week, BARS)
    assert describe_features([DAILY, peek])["inputs"].tolist() == ["close", "close"]


def test_a_feature_reads_another_where_there_are_rows() -> None:
    holed = BARS.drop(index=[(BARS.index.levels[0][k], "C") for k in (20, 21, 30)], errors="ignore")
    scored = rolling_zscore(volatility(8)(holed), 12)
    pd.testing.assert_series_equal(
        rolling_scored(volatility(8), 12)(holed), scored, check_names=False, check_exact=True
    )
    place = Feature("place_mean", lambda place: place.rolling(4).mean(), 3, PLACE)  # of a set
    assert check_feature(place, BARS).status == "PASS"


def test_what_a_formula_gives_must_fit() -> None:
    for formula, inputs in (
        (lambda close: close.iloc[1:], "close"),
        (lambda bars: bars["close"].iloc[1:], "bars"),
        (lambda close: 1.0, "close"),
    ):
        with pytest.raises(PanelError, match="return dates x symbols"):
            compute(BARS, Feature("part", formula, 0, inputs))
    values = compute(BARS, Feature("array", lambda close: np.log(close.to_numpy()), 0, "close"))
    assert same(values["array"], np.log(BARS["close"]))
    infinite = compute(
        BARS,
        [
            Feature("over", lambda close: close / 0, 0, "close"),
            Feature("bars_over", lambda bars: bars["close"] / 0, 0, "bars"),
        ],
    )
    assert infinite.isna().all(axis=None)
    big = Feature("big", lambda close: close * 0 + 1e300, 0, "close")
    assert compute(BARS, big).max(axis=None) == 1e300 and compute(BARS, big, dtype="float32").isna().all(axis=None)


def test_money_is_made_where_prices_are_what_was_paid() -> None:
    raw = sample_bars(symbols=["KO", "T"], start="2015-01-01", end="2016-12-31")
    paid = raw["close"] * raw["volume"]
    total = adjust(raw.assign(amount=paid), "total")
    made, given = dollar_volume(6)(raw), dollar_volume(6)(total)
    assert same(made, given) and same(dollar_volume(6)(raw.drop(columns="adj")), given)
    with pytest.raises(PanelError, match="before adjusting"):
        dollar_volume(6)(adjust(raw, "total"))  # the close holds dividends that were still to come
    with pytest.raises(PanelError, match="before adjusting"):
        dollar_volume(6)(raw.drop(columns="volume"))
    assert check_feature([dollar_volume(6), amihud(6)], raw.drop(columns="adj")).status == "PASS"


class TestRefusals:
    def test_of_the_record(self) -> None:
        with pytest.raises(ConfigError, match="lookback -1"):
            Feature("bad", lambda close: close, -1, ["close"])
        assert (
            Feature("one", lambda close: close, 0, "close").inputs
            == Feature("one", lambda close: close, 0, ["close"]).inputs
        )

    def test_of_the_suite(self) -> None:
        week = Feature("ret_5", lambda close: close / close.shift(5) - 1, 5, ["close"])
        dates = BARS.index.levels[0]
        with pytest.raises(PanelError, match="NaN everywhere"):
            check_feature(week, BARS.loc[: dates[3]])
        with pytest.raises(LeakError, match="level of adjusted prices"):
            check_feature(Feature("level", lambda bars: bars["close"], 0, "bars"), BARS)
        with pytest.raises(LeakError, match="level of adjusted prices"):
            check_feature(Feature("shares", lambda close, volume: np.log(close * volume), 0, ["close", "volume"]), BARS)
        assert check_feature(Feature("level", lambda close: close, 0, "close", normalised=False), BARS).status == "PASS"

    def test_of_the_call(self) -> None:
        with pytest.raises(PanelError, match="one for each row"):
            compute(BARS, [DAILY], rows=[True])
        with pytest.raises(PanelError, match="range needs column high"):
            compute(BARS.drop(columns="high"), [RANGE])
        with pytest.raises(PanelError, match="rows are not sorted"):
            compute(BARS.iloc[::-1], [DAILY])


def test_empty_and_degenerate_bars() -> None:
    assert compute(BARS.iloc[:0], [RANGE, DAILY]).shape == (0, 2)
    assert compute(BARS.assign(high=np.nan), [PLACE])["place"].isna().all()
    assert compute(BARS.iloc[:1], [DAILY])["ret_1"].isna().all()
    assert compute(BARS.assign(close=np.nan), [DAILY])["ret_1"].isna().all()
    whole = market(21, n_dates=60, missing=0)
    later = whole.index.get_level_values("date") > whole.index[0][0]
    assert compute(whole.assign(close=5.0), [DAILY])["ret_1"][later].eq(0).all()
    holed = whole.drop(index=[(whole.index.levels[0][4], "B")])
    assert np.isnan(DAILY(holed).loc[(whole.index.levels[0][5], "B")])


def test_the_audit_looks_into_a_feature_s_formula() -> None:
    "A formula that remembers is caught although a record holds it."
    from quantlab.core.audit import audit

    seen = {}

    def remembers(close):
        seen.setdefault("first", close / close.iloc[-1])
        return seen["first"].reindex_like(close)

    verdict = audit(Feature("remembers", remembers, 0, "close"), market(21, n_dates=60, missing=0))
    assert verdict.status == "LEAK", verdict


def test_the_audit_and_compute_read_one_plain_function_alike() -> None:
    bars = adjust(sample_bars(symbols=["AAPL", "KO", "T", "XOM"], end="2011-06-30"), "total")

    def gap(open_, close):
        return open_ / close.shift() - 1

    def size(bars):
        return np.log(bars["volume"])

    def ahead(close):
        return close.shift(-1) / close - 1

    for function in (gap, size):
        assert compute(bars, function).notna().any(axis=None)
        assert audit(function, bars).status == PASS
    assert compute(bars, ahead).notna().any(axis=None) and audit(ahead, bars).status == LEAK
    once = bars.assign(close=bars["close"].mask(bars.index.get_level_values("date") == "2011-01-04", 0.0))
    wanted = compute(once, gap)["gap"]  # a price of 0 is none, for either
    heard = _ByColumn(gap, named_columns(gap, once.columns))(once)
    pd.testing.assert_series_equal(heard.replace([np.inf, -np.inf], np.nan), wanted, check_names=False)


def test_a_function_that_reads_an_absent_column_is_not_assessed() -> None:
    bars = sample_bars(symbols=["KO"], end="2010-12-31").drop(columns="volume")
    verdict = audit(lambda close, volume: close * volume, bars, name="f")
    assert verdict.status == "NOT_ASSESSED" and "reads ['volume']" in verdict.reason


@pytest.mark.parametrize("name", SETS)
def test_help_of_feature_set_names_each_set_and_what_it_reads(name) -> None:
    lines = [line for line in (feature_set.__doc__ or "").split("Parameters\n")[0].splitlines() if "- " in line]
    (line,) = [line for line in lines if name in line.split(":")[0].replace(",", " ").split()]

    def reads(inputs) -> set[str]:
        return set().union(*({what} if isinstance(what, str) else reads(what.inputs) for what in inputs))

    columns = reads([what for feature in SETS[name] for what in feature.inputs])
    if name != "base":  # price and vol together
        words = set(line.split(":")[1].replace(",", " ").replace(";", " ").split())
        assert {c for c in ("open", "high", "low", "close", "volume", "vwap", "amount") if c in words} == columns


def test_every_set_is_computed_on_bars_as_the_source_gives_them() -> None:
    raw = sample_bars(symbols=["KO", "XOM"], end="2011-12-30")
    assert "amount" not in raw and compute(raw, feature_set("base"))["amount_21_126"].notna().any()
    with pytest.raises(PanelError, match=r"needs column amount.*set it before adjusting"):
        compute(adjust(raw, "total"), feature_set("base"))
