"""Posts beside the bars of a recipe: what a bar holds was readable at its close, and the chain keeps the law."""

import pandas as pd
import pytest

from quantlab.altdata.events import session_closes
from quantlab.altdata.planted import sample_posts, synth_posts
from quantlab.altdata.sources import posts_by_bar
from quantlab.core.errors import ConfigError, DataError
from quantlab.data.sample import sample_bars
from quantlab.recipe.chain_audit import audit_recipe, law
from quantlab.recipe.market import load_market
from quantlab.recipe.space import taken_out, without_posts
from quantlab.recipe.spec import Recipe, load
from quantlab.recipe.stages import Stages

NAMES = ["AAPL", "AMZN", "BA", "CAT", "CVX", "DIS", "GE", "HD", "INTC", "JPM", "KO", "XOM"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "Begin with an empty cache."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def posts():
    "Few posts on twelve names."
    dates = pd.DatetimeIndex(sample_bars(NAMES, "2012-01-03", "2013-12-31").index.unique("date"))
    return synth_posts(session_closes(dates), NAMES, 0.2, 40, seed=3).posts


@pytest.fixture(scope="module")
def file(posts, tmp_path_factory):
    "The posts as somebody's file."
    place = tmp_path_factory.mktemp("posts") / "posts.parquet"
    posts.to_parquet(place)
    return str(place)


@pytest.fixture(scope="module")
def recipe(file):
    "A small recipe that reads them."
    return Recipe().replace(
        name="small", data__universe=", ".join(NAMES), data__start="2012-01-03", data__end="2013-12-31",
        data__posts=file, features__use=["mom_63_5", "rev_5", "text_tone(5)", "text_posts(5)"], model__kind="ridge",
        split__train_sessions=126, split__test_sessions=63, policy__top_k=4, policy__buffer=2,
        signals__experts=["model", "sentiment"], signals__lookback=63,
    )  # fmt: skip


def test_a_bar_holds_what_was_readable_at_its_close(posts, file, tmp_path):
    market = load_market("sample", ", ".join(NAMES), "2012-01-03", "2013-12-31", posts=file)
    day = market.bars.index.unique("date")[200]
    close = session_closes(pd.DatetimeIndex([day])).iloc[0]
    cut = tmp_path / "cut.parquet"
    posts[posts["known_at"] <= close].to_parquet(cut)
    short = load_market("sample", ", ".join(NAMES), "2012-01-03", "2013-12-31", posts=str(cut))
    for frame in ("bars", "raw"):
        before, after = (getattr(m, frame).loc[:day, ["tone", "doubt", "posts"]] for m in (short, market))
        assert before.equals(after) and (before["posts"] > 0).any()
    assert not short.bars["tone"].equals(market.bars["tone"]) and short.hash != market.hash


def test_the_period_does_not_move_the_columns(file):
    names = ", ".join(NAMES)
    whole = load_market("sample", names, "2012-01-03", "2013-12-31", posts=file).bars
    part = load_market("sample", names, "2012-07-02", "2013-06-28", posts=file).bars
    columns = ["tone", "doubt", "posts"]
    assert part[columns].equals(whole.loc[part.index, columns])


def test_the_law_and_the_audit_hold(recipe):
    table = law(recipe, n=3)
    assert table["holds"].all(), f"\n{table.to_string()}"
    assert audit_recipe(recipe, cuts=1).status == "PASS"


def test_the_expert_is_mixed_and_can_be_left_out(recipe):
    chain = Stages(recipe)
    assert {"text_tone_5", "text_posts_5"} <= set(chain.features.columns)
    plain = without_posts(recipe)
    assert plain.data.posts == "" and plain.signals.experts == () and len(plain.features.use) == 2
    assert taken_out(recipe)["the posts"] == plain and "the posts" not in taken_out(plain)
    assert not Stages(plain).signals["score"].equals(chain.signals["score"])


def test_committed_recipes_read_posts():
    for name in ("crypto", "posts"):
        recipe = load(name)
        assert recipe.data.posts and "sentiment" in recipe.signals.experts


@pytest.mark.parametrize(
    "change, said",
    [
        ({"data__posts": ""}, "name them in data.posts"),
        ({"features__use": ["mom_63_5", "rev_5"]}, "add text_tone"),
        ({"signals__experts": ["model", "sentimental"]}, "did you mean sentiment"),
    ],
)
def test_a_slip_is_refused(recipe, change, said):
    with pytest.raises(ConfigError, match=said):
        recipe.replace(**change)


def test_sources_that_are_not_there(tmp_path, monkeypatch):
    bars = sample_bars(["KO"], "2014-01-02", "2014-03-31")
    with pytest.raises(ConfigError, match="sample has no posts on KO"):
        posts_by_bar("sample", bars.index, "XNYS")
    monkeypatch.setenv("QUANTLAB_DATA_LAKE", str(tmp_path))
    with pytest.raises(ConfigError, match="lake:posts holds no posts; quantlab altdata ingest"):
        posts_by_bar("lake:posts", bars.index, "XNYS")
    with pytest.raises(ConfigError, match="is no inbox"):
        posts_by_bar("lake:../x", bars.index, "XNYS")
    with pytest.raises((ConfigError, DataError), match="nothing.csv"):
        posts_by_bar("nothing.csv", bars.index, "XNYS")


def test_bars_around_the_clock_close_at_their_own_stamps():
    coins = load_market("synth:crypto", "all", "2020-01-01", "2020-03-31", posts="sample").bars
    first = sample_posts(["BTCUSDT"])["known_at"].iloc[0]
    told = coins["posts"].xs("BTCUSDT", level="symbol")
    assert told[told > 0].index[0] == told.index[told.index.searchsorted(first)]
