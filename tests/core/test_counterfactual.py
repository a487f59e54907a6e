"What two runs are compared by, and what a function can remember between them."

import numpy as np
import pandas as pd

from quantlab.core.counterfactual import Memory, as_frame, comparable, differs, files_seen, reached, sizes, spoken
from quantlab.features.base import Feature

INDEX = pd.MultiIndex.from_product([pd.date_range("2024-01-01", periods=4), ["A", "B"]], names=["date", "symbol"])
PANEL = pd.DataFrame({"close": np.arange(8.0), "mood": ["calm", "wild"] * 4}, index=INDEX)


def test_what_becomes_a_frame() -> None:
    assert len(as_frame(pd.Series(1.0, pd.date_range("2024-01-01", periods=3)), "f")) == 3
    twice = pd.concat([PANEL[["close"]], PANEL[["close"]]], axis=1)
    assert as_frame(twice, "f").columns.tolist() == ["close (0)", "close (1)"]


def test_what_is_compared() -> None:
    times = pd.Series(pd.to_datetime(["2024-01-01", None]))
    assert np.isnan(comparable(times)[1]) and comparable(times)[0] == times.astype("int64")[0]
    assert comparable(pd.Series([True, None], dtype=object)).tolist()[0] == 1.0
    assert comparable(pd.Series(["a", None])).dtype == object
    assert not differs(np.array(["a", None], dtype=object), np.array(["a", np.nan], dtype=object), 0.0).any()
    assert sizes(PANEL)["mood"] == 0.0 and spoken(PANEL.assign(close=np.nan)[["close"]]).sum() == 0


def test_an_object_forgets_what_it_learned() -> None:
    class Learner:
        def __init__(self) -> None:
            self.seen: dict = {}

        def __call__(self, panel: pd.DataFrame) -> pd.Series:
            self.seen.setdefault("mean", panel["close"].mean())
            return panel["close"] - self.seen["mean"]

    learner = Learner()
    memory = Memory(learner)
    learner(PANEL)
    memory.restore()
    assert learner.seen == {}


def test_a_record_s_formula_is_reached() -> None:
    def formula(close, seen={}):
        return close - seen.setdefault("mean", close.mean())

    functions, containers, _, _ = reached(Feature("learned", formula, 0, "close"))
    assert functions == [formula] and {} in containers
    memory = Memory(Feature("learned", formula, 0, "close"))
    formula(PANEL["close"])
    memory.restore()
    assert formula.__defaults__ == ({},)


def test_files_that_a_run_opens(tmp_path) -> None:
    (tmp_path / "old.txt").write_text("x")
    with files_seen() as (wrote, read):
        open(tmp_path / "old.txt").close()
        open(tmp_path / "new.txt", "w").close()
    assert {f.rpartition("/")[2] for f in wrote} == {"new.txt"} and any(f.endswith("old.txt") for f in read)
