"""The audit's word on every detector: what reads the whole series leaks, what is filtered does not."""

import pandas as pd
import pytest
from every_detector import DETECTORS, inputs_of, small

from quantlab.core.audit import LEAK, PASS, audit
from quantlab.core.panel import as_panel
from quantlab.regime.base import walk_forward_filter
from quantlab.regime.gate import gate, held_states, short_leg_timing, stale, volatility_managed
from quantlab.regime.hmm import HMM
from quantlab.regime.simulated import simulated_regimes

LEARNED = inputs_of(simulated_regimes(900, seed=1).close())  # another history: no parameter has seen the panel


def panel(seed: int = 5, n: int = 200) -> pd.DataFrame:
    "A market of one name with many storms."
    made = simulated_regimes(n, transition=((0.95, 0.05), (0.1, 0.9)), seed=seed)
    return as_panel(made.close().rename("close").to_frame().assign(symbol="S").reset_index())


def inputs(panel: pd.DataFrame) -> pd.DataFrame:
    return inputs_of(panel["close"].droplevel("symbol"))


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_smoothed_leaks_and_filtered_passes(kind):
    model = small(kind).fit(LEARNED)
    name = f"{kind.__name__}"
    read = lambda how: lambda panel: how(inputs(panel)).probabilities.rename_axis("date")
    leak = audit(read(model.smooth), panel(), cuts=20, name=f"{name}.smooth", every_date=False)
    assert leak.status == LEAK, leak
    twin = audit(read(model.filter), panel(), cuts=20, name=f"{name}.filter", every_date=False)
    assert twin.status == PASS, twin


def test_viterbi_leaks():
    model = HMM(2, n_starts=1).fit(LEARNED)

    def viterbi(panel):
        X = inputs(panel)
        path = model.hmm_.predict((X - model.center_) / model.scale_) if len(X) else []
        return pd.DataFrame({"state": path}, X.index, dtype="float64").rename_axis("date")

    assert audit(viterbi, panel(), cuts=20, every_date=False).status == LEAK


def test_a_model_refitted_on_the_whole_series_leaks_and_the_walk_does_not():
    model = HMM(2, n_starts=1, n_iter=10)

    def in_sample(panel):
        X = inputs(panel)
        return X.iloc[:0] if len(X) < 60 else model.fit(X).filter(X).probabilities.rename_axis("date")

    def walked(panel):
        X = inputs(panel)
        return X.iloc[:0] if len(X) <= 120 else walk_forward_filter(X, model, 120, 60).probabilities.rename_axis("date")

    assert audit(in_sample, panel(), every_date=False).status == LEAK
    assert audit(walked, panel(), every_date=False).status == PASS


GATES = {
    "short leg": lambda close: short_leg_timing(close, 40, 5),
    "volatility": lambda close: volatility_managed(close, lookback=10),
    "stale": lambda close: stale(volatility_managed(close, lookback=10), close.index[::3], 1)[["gate"]],
}


@pytest.mark.parametrize("name", GATES)
def test_every_gate_passes(name):
    made = lambda panel: GATES[name](panel["close"].droplevel("symbol")).rename_axis("date")
    assert audit(made, panel(), cuts=20, every_date=False).status == PASS


def test_a_held_state_passes_and_one_that_looks_back_from_the_end_leaks():
    model = HMM(2, n_starts=1).fit(LEARNED)
    another = True  # the model's dates are the panel's, its history is another one
    held = lambda panel: gate(held_states(model.filter(inputs(panel))), None, another).rename_axis("date")

    def from_the_end(panel):
        "Average the days around, the later ones too."
        return held(panel).rolling(5, center=True, min_periods=1).mean()

    assert audit(held, panel(), every_date=False).status == PASS
    assert audit(from_the_end, panel(), every_date=False).status == LEAK
