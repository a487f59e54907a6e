"Committed trials say what was tried before later years were opened: read the files, and see that nothing came after."

import json

import pandas as pd
import pytest

from quantlab.core.config import root
from quantlab.core.errors import DataError
from quantlab.recipe.evidence import OPENED, read_trials, trial_returns
from quantlab.recipe.spec import load

FILES = sorted((root() / "recipes").glob("*.trials.parquet"))


def test_recipes_that_were_searched_bring_their_trials():
    assert {file.name.split(".")[0] for file in FILES} >= {"default", "csi300", "us"}


def settings(params: str) -> dict:
    "Return what a trial tried, without its name and its dates."
    said = {k: v for k, v in json.loads(params).items() if k not in ("name", "title", "chosen_until", "data")}
    return {k: v for k, v in said.items() if k != "regime" or v.get("gate", True)}  # without a gate it only describes


def late(rows: pd.DataFrame) -> pd.DataFrame:
    "Return the trials written after the first opening, but for runs of the very setting that was opened."
    opened = rows[rows["study"] == OPENED]
    after = (rows["seq"] > opened["seq"].min()) | (rows["written"] > opened["written"].min())
    chosen = [settings(p) for p in rows.loc[rows["key"] == json.loads(opened["params"].iloc[0])["key"], "params"]]
    return rows[after & (rows["kind"] == "trial") & ~rows["params"].map(lambda p: settings(p) in chosen)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.split(".")[0])
def test_later_years_were_opened_once_and_after_every_trial(file):
    rows, recipe = read_trials(file), load(file.name.split(".")[0])
    opened = rows[rows["study"] == OPENED]
    assert len(opened) == 1 and json.loads(opened["params"].iloc[0])["study"].startswith(f"{recipe.study}/")
    assert late(rows).empty and rows["seq"].is_monotonic_increasing and rows["kind"].eq("trial").sum() >= 20
    next_to = rows["seq"].diff().eq(1)
    assert next_to.iloc[1:].all() and (rows["prev_hash"] == rows["hash"].shift())[next_to].all(), "a row is missing"
    assert recipe.chosen_until
    for study in rows.loc[rows["kind"] == "trial", "study"].unique():
        series = trial_returns(file, study)
        assert series.index.max() <= pd.Timestamp(recipe.chosen_until), "a trial has seen an opened session"
        assert series.shape[1] >= 0.9 * rows.loc[rows["study"] == study, "key"].nunique()


def test_a_trial_after_the_opening_and_a_forged_row_would_be_seen(tmp_path):
    file = FILES[0]
    rows = read_trials(file)
    opened = rows.index[rows["study"] == OPENED][0]
    moved = rows.copy()
    moved.loc[opened, "seq"] = rows["seq"].min() - 1
    assert len(late(moved)) > 0.9 * rows["kind"].eq("trial").sum()
    forged = pd.read_parquet(file)
    forged.loc[3, "sharpe"] += 0.01
    forged.to_parquet(tmp_path / file.name)
    with pytest.raises(DataError, match="the hash of row"):
        read_trials(tmp_path / file.name)
