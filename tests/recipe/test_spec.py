"A recipe is read, refused, written and hashed as its page says; its words are what the rooms offer."

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from leaky_parts import TREES, small, with_model

from quantlab.broker import fill_model
from quantlab.broker.fill_model import FillModel
from quantlab.core.config import root
from quantlab.core.errors import ConfigError, DataError
from quantlab.core.ledger import Ledger
from quantlab.features import xsection
from quantlab.features.sets import SETS
from quantlab.models.gbm import GBMModel
from quantlab.models.qlib import QLIB_NAMES
from quantlab.recipe import parts, spec, stages
from quantlab.recipe.decide import decide
from quantlab.recipe.evidence import code_hash, read_trials, recipe_key, save_trials
from quantlab.recipe.parts import make_model
from quantlab.recipe.run import run
from quantlab.recipe.spec import Recipe, as_dict, executes, load, parse, recipe_names
from quantlab.recipe.stages import Stages

# ---------------------------------------------------------------- the words are those of the rooms


def test_the_sets_and_features_are_those_of_the_room():
    assert set(spec.FEATURE_SETS) == set(SETS)
    named = {f.name for some in SETS.values() for f in some}
    pattern = re.compile(r"[A-Z]+\d*")  # of Alpha158 and Alpha360, which spec knows by their form
    assert set(spec.FEATURE_NAMES) == {name for name in named if not pattern.fullmatch(name)}
    for name in ("KMID", "ROC20", "MA5"):
        assert name in named and parse(f"features: {{use: [{name}]}}", "x").features.use == (name,)


def test_the_makers_are_those_of_the_room():
    assert set(parts._MAKERS) == set(spec.FEATURE_MAKERS)
    beside = {
        "true_range", "smooth", "memory", "rolling_zscore", "frac_weights", "frac_width", "frac_diff", "cusum",
        "event_count", "days_since_event", "event_value",  # these take a frame of events
    }  # fmt: skip
    offered = {n for room in parts._ROOMS for n in room.__all__ if callable(getattr(room, n)) and n not in beside}
    assert {name for name in offered if name.islower()} == set(spec.FEATURE_MAKERS)


def test_the_models_of_qlib_are_those_of_the_adapter():
    assert spec.QLIB_MODELS == tuple(QLIB_NAMES)
    assert Recipe().replace(model={"kind": "qlib"}).model.settings == {}, "LightGBM, as the adapter has it"
    with pytest.raises(ConfigError, match="did you mean LightGBM"):
        Recipe().replace(model={"kind": "qlib", "name": "LightGMB"})


def test_the_fills_and_transforms_are_those_of_their_rooms():
    for name in spec.FILLS:
        assert isinstance(getattr(fill_model, name)(), FillModel)
    models = {n for n in fill_model.__all__ if n.islower() and n not in ("in_words", "terms_of")}
    assert models - set(spec.FILLS) == {"limit_queue"}  # for limit orders, which weights do not send
    assert set(spec.TRANSFORMS) == set(xsection.__all__) - {"by_date", "neutralise"}


ELSEWHERE = {"seeds", "shrink"}  # of the ensemble itself


@pytest.mark.parametrize("kind", [k for k in spec.MODEL_SETTINGS if k not in ("feature", "qlib")])  # Qlib's know theirs
def test_each_setting_of_a_model_reaches_it(kind, monkeypatch):
    monkeypatch.setattr(parts, "check_stages", lambda **stages: None)  # what is not installed is refused elsewhere
    for name, bounds in spec.MODEL_SETTINGS[kind].items():
        if name == "path_lookback":  # of the features
            continue
        if name == "seeds" and kind != "ensemble":  # one seed is the model itself
            bounds = bounds[1:]
        for value in set(bounds) - {1e12}:
            value = int(value) if name in ("lag", "blocks", "n_kernels", "seeds") else value
            model = parts.make_model(kind, 21, settings={name: value})
            found = [v for k, v in model.get_params(deep=True).items() if k.rpartition("__")[2] == name]
            if kind == "ensemble" and name not in ELSEWHERE:
                found = [getattr(m, name) for m in model.models.values() if hasattr(m, name)]
            assert value in found, (kind, name, value)


def test_a_setting_that_is_a_word_is_one_of_its_words():
    with pytest.raises(ConfigError, match="validator is 'xgbost', expected one of mlp, xgboost, none; did you mean"):
        Recipe().replace(model__kind="cascade", model__validator="xgbost")


def test_no_setting_of_the_trees_is_forgotten():
    ours = {"purge", "validation", "objective", "monotone", "grades", "alpha", "seed"}
    assert set(spec.MODEL_SETTINGS["gbm"]) - {"seeds"} == set(GBMModel().get_params()) - ours


# ---------------------------------------------------------------- refusals


MISTAKES = {
    "a misspelt key": ("seed: 7\npolicy:\n  rebalance: 20\n  topk: 30\n", 4, "top_k"),
    "a misspelt section": ("seed: 7\npolcy:\n  top_k: 30\n", 2, "policy"),
    "too small": ("policy:\n  top_k: 0\n", 2, "top_k"),
    "too large": ("seed: 7\nsplit:\n  train_sessions: 99999\n", 3, "train_sessions"),
    "no number": ("policy:\n  top_k: many\n", 2, "top_k"),
    "a float that should be whole": ("policy:\n  top_k: 3.5\n", 2, "top_k"),
    "an unknown feature": ("features:\n  use:\n  - base\n  - mom_252_12\n", 4, "mom_252_21"),
    "an unknown set": ("features:\n  use: [alpha185]\n", 2, "alpha158"),
    "an unknown transform": ("features:\n  transform: [rang]\n", 2, "rank"),
    "an unknown model": ("model:\n  kind: gmb\n", 2, "gbm"),
    "a setting of another model": ("model:\n  kind: ridge\n  num_leaves: 31\n", 3, "num_leaves"),
    "a setting out of range": ("model:\n  kind: gbm\n  num_leaves: 1\n", 3, "num_leaves"),
    "an unknown fill": ("seed: 7\nfill: nextopen\n", 2, "next_open"),
    "an unknown state": ("regime:\n  kind: hmm\n  exposure:\n    turbulant: 0.3\n", 4, "turbulent"),
    "a state of another count": ("regime:\n  kind: hmm\n  exposure: {crisis: 0.0}\n", 3, "calm, normal, turbulent"),
    "a share beyond one": ("regime:\n  kind: hmm\n  exposure:\n    turbulent: 1.3\n", 4, "1.3"),
    "an old setting": ("regime:\n  kind: hmm\n  stressed_exposure: 0.3\n", 3, "exposure"),
    "an unknown detector": ("regime:\n  kind: hnm\n", 2, "hmm"),
    "an unknown expert": ("signals:\n  experts:\n  - model\n  - std20\n", 4, "std_20"),
    "an expert twice": ("signals:\n  experts: [model, model]\n", 2, "twice"),
    "a misspelt signal": ("signals:\n  halflife: 63\n", 2, "half_life"),
    "shorts that are timed and not there": ("regime:\n  short_leg: momentum\n", None, "long_short"),
    "an unknown policy": ("policy:\n  kind: topkk\n", 2, "topk"),
    "dates the wrong way": ("data:\n  start: 2015-01-02\n  end: 2014-01-02\n", 3, "before start"),
    "an empty universe": ("data:\n  universe: ''\n", 2, "universe is empty"),
    "not YAML": ("policy:\n  top_k: [30\n", 3, "not YAML"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line_with_file_and_line(tmp_path, what):
    text, line, word = MISTAKES[what]
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(file)
    said = str(error.value)
    assert "\n" not in said and f"mine.yaml{f', line {line}' if line else ''}: " in said and word in said, said


def test_a_mistake_is_refused_before_pandas_is_imported(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("policy:\n  topk: 30\n")
    program = (
        "import sys\nfrom quantlab.recipe.spec import load\n"
        f"try:\n    load({str(file)!r})\nexcept ValueError as error:\n    print(error)\n"
        "print([m for m in ('pandas', 'numpy', 'lightgbm', 'sklearn', 'numba') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, imported = done.stdout.splitlines()
    assert "mine.yaml, line 2: " in said and "did you mean top_k?" in said and imported == "[]"


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("model.kind", "nowhere:Model", "nowhere"),
        ("model.kind", "leaky_parts:Missing", "Missing"),
        ("features.use", ["nowhere:FEATURES"], "nowhere"),
        ("features.use", ["leaky_parts:small"], "gives no Feature"),
        ("features.use", ["momentum(21)"], "momentum("),
        ("features.transform", ["nowhere:transform"], "nowhere"),
        ("label.kind", "nowhere:label", "nowhere"),
        ("regime.kind", "nowhere:regime", "nowhere"),
        ("signals.experts", ["nowhere:expert"], "nowhere"),
        ("signals.experts", ["mom_100_5"], "did you mean mom_"),
        ("policy.kind", "nowhere:policy", "nowhere"),
        ("fill", "nowhere:fill", "nowhere"),
    ],
)
def test_a_part_that_is_not_there_is_refused_before_any_bar_is_read(monkeypatch, path, value, word):
    def never(*args):
        raise AssertionError("bars were read")

    monkeypatch.setattr(stages, "market_bars", never)
    with pytest.raises(ConfigError, match=re.escape(word)):
        run(small().replace(path, value), record=False)


@pytest.mark.parametrize(("universe", "word"), [("APPL", "AAPL"), (" , ", "universe is empty")])
def test_a_universe_that_is_not_there_is_refused(universe, word):
    with pytest.raises(ConfigError, match=word):
        Stages(small().replace("data.universe", universe)).features  # noqa: B018


# ---------------------------------------------------------------- writing and reading


_models = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["gbm", "lambdarank", "quantile"])},
        optional={"num_leaves": st.integers(2, 1024), "learning_rate": st.floats(1e-4, 1.0)},
    ),
    st.fixed_dictionaries({"kind": st.just("ridge"), "alpha": st.floats(0, 1e12)}),
    st.fixed_dictionaries({"kind": st.just("feature"), "column": st.sampled_from(spec.FEATURE_NAMES)}),
)


def _year_of(page):
    "A volatility target needs the length of a year."
    aims = page.get("sizing", {}).get("vol_target")
    return {"data": page.get("data", {}) | {"periods_per_year": 252}} if aims else {}


_pages = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1),
        "data": st.fixed_dictionaries({}, optional={"start": st.just("2011-01-03"), "universe": st.just("AAPL, IBM")}),
        "features": st.fixed_dictionaries(
            {"use": st.lists(st.sampled_from((*spec.FEATURE_SETS, *spec.FEATURE_NAMES)), min_size=1)},
            optional={"transform": st.lists(st.sampled_from(spec.TRANSFORMS))},
        ),
        "label": st.fixed_dictionaries({"horizon": st.integers(1, 250), "target": st.sampled_from(spec.TARGETS)}),
        "split": st.fixed_dictionaries({"expanding": st.booleans(), "embargo": st.integers(0, 60)}),
        "model": _models,
        "sizing": st.fixed_dictionaries({"vol_target": st.none() | st.floats(0.01, 5)}),
        "fill": st.sampled_from(spec.FILLS),
        "capital": st.floats(1, 1e15),
        "seed": st.integers(0, 2**31),
    },
).map(lambda page: page | _year_of(page))


@settings(max_examples=60)
@given(page=_pages)
def test_a_recipe_that_is_written_reads_the_same(page):
    recipe = parse(yaml.safe_dump(page), "mine")
    assert parse(recipe.save("-"), "other") == recipe
    assert parse(yaml.safe_dump(as_dict(recipe, all_of_it=True)), "other") == recipe


@settings(max_examples=20)
@given(page=_pages, order=st.randoms())
def test_the_key_is_not_of_order_or_comments_or_names(page, order):
    def shuffled(tree):
        keys = list(tree)
        order.shuffle(keys)
        return {k: shuffled(tree[k]) if isinstance(tree[k], dict) else tree[k] for k in keys}

    recipe = parse(yaml.safe_dump(page), "mine")
    text = "# a comment\n" + yaml.safe_dump(shuffled(page), sort_keys=False) + "# another\n"
    again = parse(text if page else "# a comment\n{}\n", "other").replace(title="Another", study="another")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantlab.recipe.evidence.code_hash", lambda recipe: "0")
        assert recipe_key(recipe, "0") == recipe_key(again, "0")
        assert recipe_key(recipe, "0") != recipe_key(recipe, "1")


def test_the_key_is_of_every_number(monkeypatch):
    monkeypatch.setattr("quantlab.recipe.evidence.code_hash", lambda recipe: "0")
    changes = {
        "data.start": "2011-01-03", "features.transform": [], "label.horizon": 21, "split.embargo": 6,
        "model.num_leaves": 30, "regime.kind": "hmm", "regime.exposure.turbulent": 0.1,
        "signals.half_life": 5, "signals.experts": ["model"], "policy.top_k": 31, "limits.max_weight": 0.2,
        "sizing.weighting": "rank", "costs.commission_bps": 2.0, "fill": "next_close", "capital": 5e5, "seed": 8,
    }  # fmt: skip
    plain = Recipe()
    keys = {recipe_key(plain.replace(path, value), "0") for path, value in changes.items()}
    assert len(keys | {recipe_key(plain, "0")}) == len(changes) + 1


def test_committed_recipes_are_read_and_say_what_they_import():
    assert recipe_names()
    for name in recipe_names():
        recipe = load(name)
        assert recipe.name == name and parse(recipe.save("-"), "x") == recipe and executes(recipe) == []


# ---------------------------------------------------------------- parts that a package brings


def test_an_installed_package_brings_parts_by_entry_point(monkeypatch):
    page = "model: {kind: mine, scale: 2.0}\npolicy: {kind: mine}\n"
    with pytest.raises(ConfigError, match="line 1: .*'mine' is no model"):
        parse(page, "x", "x.yaml")
    monkeypatch.syspath_prepend(Path(__file__).parent / "plugin")
    recipe = parse(page, "x", "x.yaml")
    assert executes(recipe) == ["mine_parts:Mean", "mine_parts:two_best"]
    model = parts.model_of(recipe)
    assert type(model).__name__ == "Mean" and model.scale == 2.0
    chain = Stages(small(model={"kind": "mine", "scale": 2.0}, policy__kind="mine"))
    counted = chain.weights.groupby(level="date").size()
    assert (counted == 2).all() and chain.account.equity.notna().all()
    assert {m.sign_ for m in chain.fits.models} <= {1.0, -1.0}


# ---------------------------------------------------------------- what a change costs


def test_another_top_k_fits_nothing_and_another_horizon_computes_no_feature(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path / "cache"))
    kept = lambda: {file.name for file in (tmp_path / "cache").glob("*.zip")}
    ledger, recipe = Ledger(tmp_path / "ledger.sqlite"), with_model("gbm", **TREES)
    code_hash(recipe)  # kept once for a process
    start = kept()
    first = run(recipe, ledger=ledger)
    before, windows = kept(), len(first.fits.models)
    assert first.fits.done == windows
    assert len(before - start) == 2 + 2 * windows  # verdicts, features; fits and what they say
    again = run(recipe, "policy.top_k=12", ledger=ledger)  # another process would do the same
    assert again.fits.done == 0 and kept() == before
    assert again.predictions.equals(first.predictions) and not again.weights.equals(first.weights)
    longer = run(recipe, "label.horizon=10", ledger=ledger)
    assert longer.fits.done == windows and len(kept()) == len(before) + 2 * windows  # and no features


def test_stages_that_agree_are_the_same_object(monkeypatch):
    recipe = with_model("gbm", **TREES)
    chain = Stages(recipe)
    first = chain.features, chain.predictions, chain.weights

    def never(*args, **kwargs):
        raise AssertionError("a feature was computed again")

    monkeypatch.setattr(stages, "compute", never)
    monkeypatch.setattr(stages, "causality", never)
    other = chain.like(recipe.replace("label.horizon", 10))
    assert other.features is first[0] and not other.predictions.equals(first[1])
    wider = chain.like(recipe.replace("policy.top_k", 12))
    assert wider.predictions is first[1] and wider.weights is not first[2]


def test_the_room_has_a_folder_of_recipes():
    assert (root() / "recipes").is_dir()


def test_a_target_a_year_needs_a_year_and_a_bare_name_its_section():
    with pytest.raises(ConfigError, match="data.periods_per_year must say"):
        parse("sizing: {vol_target: 0.1}", "mine", "my.yaml")
    with pytest.raises(ConfigError, match="did you mean data.universe"):
        Recipe().replace("universe", "AAPL")


def test_before_anything_is_known_the_refusal_says_when():
    with pytest.raises(DataError, match="looks back 63: nothing is known yet; ask for a later day"):
        decide(small(features__use=["mom_63_5"], model__kind="feature", model__column="mom_63_5"), "2010-02-01")


def test_the_trials_of_another_study_whose_name_begins_alike_stay_out(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for study in ("mine/sample/strategy", "mine2/sample/strategy"):
        ledger.record("trial", study, study, {}, 100, 252.0, 0.1, 0.0, 3.0)
    assert save_trials(tmp_path / "t.parquet", ledger, "mine", {}) == 1
    assert read_trials(tmp_path / "t.parquet")["study"].tolist() == ["mine/sample/strategy"]


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("policy: {top_k: 5}\nseed: 1\npolicy: {top_k: 6}\n", r"line 3: not YAML \(policy is written twice\)"),
        ("name: a/../../z\n", "line 1"),
        ("model:\n  kind: gbm\n  num_leaves: 2.5\n", "line 3: model: num_leaves is 2.5, expected a whole number"),
    ],
)
def test_what_yaml_or_a_library_would_let_pass_is_refused(page, says):
    with pytest.raises(ConfigError, match=says):
        parse(page, "mine", "mine.yaml")


def test_a_misspelt_setting_of_a_model_is_refused_and_that_of_another_left_out():
    with pytest.raises(ConfigError, match="num_leafs is no setting of a model; did you mean num_leaves"):
        make_model("gbm", 21, settings={"num_leafs": 3})
    assert make_model("ridge", 21, settings={"num_leaves": 3}).alpha == make_model("ridge", 21).alpha


def test_a_feature_that_looks_ahead_is_left_out_and_named(tmp_path):
    recipe = small(features__use=["leaky_parts:TOMORROW", "rev_21"])
    done = run(recipe, ledger=Ledger(tmp_path / "l.sqlite"))
    assert "LEAK" in done.table()["left out"] and "LEAK" in repr(done)
    done.save(tmp_path)
    assert pd.read_parquet(tmp_path / "causality.parquet")["verdict"].ne("PASS").sum() == 1
    decided = decide(recipe, recipe.data.end)
    assert len(decided.left_out) == 1 and "left out" in repr(decided)


def test_a_decision_far_after_the_last_bar_is_refused():
    recipe = small()
    with pytest.raises(DataError, match="the bars end at .* days before 2030-01-01"):
        decide(recipe, "2030-01-01")


def test_a_recipe_of_one_name_has_nothing_to_choose_among():
    for ask in (run, lambda recipe: decide(recipe, "2013-06-28")):
        with pytest.raises(DataError, match="1 symbol has bars, and a recipe chooses among names"):
            ask(small(data__universe="AAPL", policy__top_k=1))
