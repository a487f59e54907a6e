"""Rank IC per date of one score on the whole sample, ours against alphalens."""

import warnings

import alphalens
import harness
import numpy as np
from alphalens.performance import factor_information_coefficient

from quantlab.data.bars import adjust
from quantlab.data.sample import sample_bars
from quantlab.features.base import compute
from quantlab.features.price import momentum
from quantlab.labels.forward import forward_returns
from quantlab.report.alphalens import alphalens_frame
from quantlab.validation.scores import rank_ic


def main() -> dict:
    "Time the daily rank IC; both sides start from the aligned score and outcome."
    bars = adjust(sample_bars())
    score = compute(bars, [momentum(252, 21)])["mom_252_21"]
    outcome = forward_returns(bars, 20)["y"]
    frame = alphalens_frame(score, outcome, 20)
    pairs = frame.rename_axis(["date", "symbol"])

    def peer():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return factor_information_coefficient(frame)["20D"]

    values = (lambda ic: ic.dropna().to_numpy(), lambda ic: np.asarray(ic))
    return harness.compare("ic", f"alphalens-reloaded {alphalens.__version__}", lambda: rank_ic(pairs["factor"], pairs["20D"]), peer, values, n=len(pairs), rounds=3)
