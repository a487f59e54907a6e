"""Per-date operations against pandas groupby, and the properties they keep."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.panel import ConfigError, PanelError
from quantlab.features.xsection import neutralise, rank, winsorise, zscore

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)


def panel(seed: int, ties: bool = True) -> pd.DataFrame:
    """Ragged panel with ties, NaN and infinities; every date keeps at least one row."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([pd.date_range("2024-01-01", periods=8, unit="us"), pd.Index(list("ABCDEFGHIJ"), dtype="str")], names=["date", "symbol"])
    values = rng.normal(size=(len(index), 2)) * 10
    frame = pd.DataFrame(values.round(0 if ties else 12), index=index, columns=["x", "y"])
    frame = frame.mask(rng.random(frame.shape) < 0.15).mask(rng.random(frame.shape) < 0.03, np.inf)
    keep = rng.random(len(frame)) < 0.7
    keep[::10] = True
    return frame[keep]


def sectors(frame: pd.DataFrame, seed: int) -> pd.Series:
    rng = np.random.default_rng(seed)
    return pd.Series(rng.choice(np.array(["a", "b", "c", None], dtype=object), len(frame)), index=frame.index)


def finite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.where(np.isfinite(frame))


@LIGHT
@given(seed=SEEDS)
def test_rank_equals_pandas(seed: int) -> None:
    x = finite(panel(seed))
    groups = x.groupby("date")
    expected = (groups.rank() - 0.5) / groups.transform("count") - 0.5
    pd.testing.assert_frame_equal(rank(panel(seed)), expected)


@LIGHT
@given(seed=SEEDS)
def test_zscore_equals_pandas(seed: int) -> None:
    x = finite(panel(seed))
    groups = x.groupby("date")
    spread = groups.transform("max") > groups.transform("min")
    expected = ((x - groups.transform("mean")) / groups.transform("std")).where(spread)
    pd.testing.assert_frame_equal(zscore(panel(seed)), expected)


@LIGHT
@given(seed=SEEDS, low=st.floats(0, 0.4), high=st.floats(0.6, 1))
def test_winsorise_equals_pandas(seed: int, low: float, high: float) -> None:
    x = finite(panel(seed))
    bounds = [x.groupby("date").transform(lambda c, q=q: c.quantile(q)) for q in (low, high)]
    pd.testing.assert_frame_equal(winsorise(panel(seed), (low, high)), x.clip(*bounds))


@LIGHT
@given(seed=SEEDS)
def test_neutralise_equals_pandas(seed: int) -> None:
    x, groups = finite(panel(seed)), sectors(panel(seed), seed)
    keys = [x.index.get_level_values("date"), groups]
    expected = x - x.groupby(keys, dropna=True).transform("mean")
    pd.testing.assert_frame_equal(neutralise(panel(seed), groups), expected.where(groups.notna()), atol=1e-12)


FUNCTIONS = {
    "rank": rank,
    "zscore": zscore,
    "winsorise": lambda x: winsorise(x, (0.1, 0.9)),
    "neutralise": lambda x: neutralise(x, pd.Series(x.index.get_level_values("symbol").isin(list("ACE")).astype(str), index=x.index)),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
class TestAll:
    @LIGHT
    @given(seed=SEEDS)
    def test_a_date_sees_no_other_date(self, function, seed: int) -> None:
        x = panel(seed)
        date = x.index[len(x) // 2][0]
        pd.testing.assert_frame_equal(function(x).loc[[date]], function(x.loc[[date]]), check_index_type=False)

    @LIGHT
    @given(seed=SEEDS)
    def test_columns_do_not_mix(self, function, seed: int) -> None:
        x = panel(seed)
        pd.testing.assert_series_equal(function(x)["y"], function(x["y"]))

    @LIGHT
    @given(seed=SEEDS)
    def test_never_infinite_never_invented(self, function, seed: int) -> None:
        x = panel(seed)
        result = function(x)
        assert result.index.equals(x.index)
        assert not np.isinf(result.to_numpy()).any()
        assert result[~np.isfinite(x)].isna().all().all()

    def test_empty_and_unsorted(self, function) -> None:
        x = panel(0)
        assert function(x.iloc[:0]).shape == (0, 2)
        with pytest.raises(PanelError, match="not sorted"):
            function(x.iloc[::-1])


@LIGHT
@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_scale_free(seed: int, scale: float) -> None:
    x = panel(seed)
    pd.testing.assert_frame_equal(rank(x * scale), rank(x))
    pd.testing.assert_frame_equal(zscore(x * scale), zscore(x), atol=1e-9)
    pd.testing.assert_frame_equal(winsorise(x * scale), winsorise(x) * scale, rtol=1e-9)


def test_rank_is_open_and_centred() -> None:
    ranks = rank(panel(1))
    assert ranks.stack().dropna().abs().max() < 0.5
    np.testing.assert_allclose(ranks.groupby("date").mean(), 0, atol=1e-12)


@pytest.mark.parametrize("limits", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.5), (0.5, 0.5), (np.nan, 0.5)])
def test_bad_limits(limits: tuple[float, float]) -> None:
    with pytest.raises(ConfigError):
        winsorise(panel(0), limits)


def test_groups_on_another_index() -> None:
    x = panel(0)
    with pytest.raises(PanelError, match="align them first"):
        neutralise(x, sectors(x, 0).iloc[:-1])
