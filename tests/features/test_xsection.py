"""Per-date operations against pandas groupby, and the properties they keep."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, PanelError
from quantlab.features.xsection import neutralise, rank, robust_zscore, winsorise, zscore

LIGHT = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)


def panel(seed: int, ties: bool = True) -> pd.DataFrame:
    """Ragged panel with ties, NaN and infinities; every date keeps at least one row."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [pd.date_range("2024-01-01", periods=8, unit="us"), pd.Index(list("ABCDEFGHIJ"), dtype="str")],
        names=["date", "symbol"],
    )
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


@LIGHT
@given(seed=SEEDS)
def test_robust_zscore_equals_pandas(seed: int) -> None:
    x = finite(panel(seed))
    away = x - x.groupby("date").transform("median")
    spread = 1.4826 * away.abs().groupby("date").transform("median")
    pd.testing.assert_frame_equal(robust_zscore(panel(seed)), (away / spread).where(spread > 0))


def exposures(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed + 1)
    x = panel(seed)
    z = pd.DataFrame(rng.normal(size=(len(x), 2)) * [1, 1e4] + [0, 1e6], index=x.index, columns=["beta", "size"])
    return z.mask(rng.random(z.shape) < 0.1)


@LIGHT
@given(seed=SEEDS, with_groups=st.booleans(), repeat=st.booleans())
def test_neutralise_equals_least_squares_per_date(seed: int, with_groups: bool, repeat: bool) -> None:
    "The residual of numpy's lstsq on dummies and exposures; a repeated or constant exposure changes nothing."
    x, z = panel(seed, ties=False), exposures(seed)
    groups = sectors(x, seed) if with_groups else None
    given_z = z.assign(again=z["size"] * 3 - 7, one=4.2) if repeat else z
    ours = neutralise(x["x"], groups, given_z)
    known = np.isfinite(x["x"]) & z.notna().all(axis=1) & (groups.notna() if with_groups else True)
    assert ours[~known].isna().all()
    for date, part in x[known].groupby("date"):
        cells = groups[part.index] if with_groups else pd.Series("all", index=part.index)
        dummies = (cells.to_numpy()[:, None] == np.unique(cells.astype(str).to_numpy())).astype(float)
        scaled = (z.loc[part.index] - [0, 1e6]) / [1, 1e4]
        design = np.column_stack([dummies, scaled])
        fit = np.linalg.lstsq(design, part["x"], rcond=1e-9)
        if len(part) <= fit[2]:
            assert ours.loc[[date]].isna().all()
        else:
            np.testing.assert_allclose(ours[part.index], part["x"] - design @ fit[0], atol=1e-7)


@LIGHT
@given(seed=SEEDS)
def test_neutralise_takes_out_and_is_done_once(seed: int) -> None:
    x, z, groups = panel(seed)["x"], exposures(seed), sectors(panel(seed), seed)
    once = neutralise(x, groups, z)
    pd.testing.assert_series_equal(neutralise(once, groups, z), once, atol=1e-7)
    shifted = x + 5 * z["beta"] - 3 + groups.map({"a": 1.0, "b": -2.0, "c": 0.5}).astype(float)
    np.testing.assert_allclose(neutralise(shifted, groups, z), once, atol=1e-6)
    assert neutralise(z["beta"] * 2 - 1, groups, z).dropna().eq(0).all()


def test_neutralise_defined_cases() -> None:
    x, z = panel(2, ties=False)["x"], exposures(2)
    lone = pd.Series(x.index.get_level_values("symbol"), index=x.index)
    assert neutralise(x, lone).dropna().eq(0).all()  # every group has one member
    assert neutralise(x, lone, z).isna().all()  # as many constants as rows
    assert neutralise(x, None, z["beta"]).equals(neutralise(x, None, z[["beta"]]))
    pd.testing.assert_series_equal(
        neutralise(x, None, z["beta"] * 0 + 1),
        (x - x[z["beta"].notna() & np.isfinite(x)].groupby("date").mean()).where(z["beta"].notna() & np.isfinite(x)),
        check_names=False,
    )
    assert neutralise(x, None, z * np.nan).isna().all() and neutralise(x * np.nan, None, z).isna().all()
    with pytest.raises(ConfigError, match="groups, exposures, or both"):
        neutralise(x)
    with pytest.raises(PanelError, match="exposures.reindex"):
        neutralise(x, None, z.iloc[1:])


FUNCTIONS = {
    "robust_zscore": robust_zscore,
    "residual": lambda x: neutralise(
        x, None, pd.Series(x.index.get_level_values("symbol").map(ord).to_numpy(dtype=float) ** 2, index=x.index)
    ),
    "rank": rank,
    "zscore": zscore,
    "winsorise": lambda x: winsorise(x, (0.1, 0.9)),
    "neutralise": lambda x: neutralise(
        x, pd.Series(x.index.get_level_values("symbol").isin(list("ACE")).astype(str), index=x.index)
    ),
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
