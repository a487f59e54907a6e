"""10,000 Heston prices, 200 strikes and 50 expiries, ours at once against QuantLib's AnalyticHestonEngine one by one.

QuantLib's options, its model and one engine stand before its clock starts; what is timed gives each option the engine
anew and asks for its price, with its 144 nodes. Expiries are whole days, so that both sides have the same times.
`parts` has the same with QuantLib's adaptive integral on every tenth option, which is how its prices are right at
short expiries, and the seconds of a fit of 140 quotes of the sample's SPX chain from three starts, without and with
the profile's intervals (no peer).
"""

import json
from pathlib import Path

import harness
import numpy as np
import QuantLib as ql

from quantlab.data.sample import sample_options
from quantlab.pricing.calibrate import fit_heston, thin_quotes
from quantlab.pricing.chain import chain_from_contracts, chain_volatilities, parity_forwards, usable_quotes
from quantlab.pricing.heston import HestonModel, heston_price
from quantlab.pricing.quantlib import quantlib_date

RESULTS = Path(__file__).parent / "results" / "heston.json"
MODEL = HestonModel(0.0175, 0.0398, 1.5768, 0.5751, -0.5711)
STRIKES, DAYS = np.linspace(50.0, 200.0, 200), np.linspace(14, 730, 50).astype(int)


class Peer:
    "Hold QuantLib's options."

    def __init__(self, today: ql.Date, every_nth: int = 1):
        curve = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
        quote = ql.QuoteHandle(ql.SimpleQuote(100.0))
        numbers = (MODEL.v0, MODEL.kappa, MODEL.theta, MODEL.sigma, MODEL.rho)
        self.model = ql.HestonModel(ql.HestonProcess(curve, curve, quote, *numbers))
        exercises = [ql.EuropeanExercise(today + int(d)) for d in DAYS]
        payoffs = [ql.PlainVanillaPayoff(ql.Option.Call, float(s)) for s in STRIKES[::every_nth]]
        self.options = [ql.VanillaOption(payoff, exercise) for exercise in exercises for payoff in payoffs]

    def prices(self, *how: float) -> np.ndarray:
        "Price every option with a fresh engine."
        engine, out = ql.AnalyticHestonEngine(self.model, *how), np.empty(len(self.options))
        for i, option in enumerate(self.options):
            option.setPricingEngine(engine)
            out[i] = option.NPV()
        return out


def fits(rounds: int) -> dict:
    "Time the fit of the sample's chain."
    chain = chain_from_contracts(sample_options(), "2026-01-30 16:00-05:00")
    usable = usable_quotes(chain_volatilities(chain, parity_forwards(chain, 0.0365)))
    usable = usable[(usable["years"] > 14 / 365) & ((usable["root"] == "SPXW") | (usable["years"] > 0.8))]
    quotes = thin_quotes(usable)
    seconds = {
        "three_starts_s": harness.timed(lambda: fit_heston(quotes, "volatility", profile=False), rounds),
        "with_intervals_s": harness.timed(lambda: fit_heston(quotes, "volatility"), rounds),
    }
    return {"quotes": len(quotes)} | {name: round(s, 4) for name, s in seconds.items()}


def main(rounds: int = 5) -> dict:
    "Time both sides; the parts hold the adaptive integral and the fit."
    grid = STRIKES[None, :], DAYS[:, None] / 365
    with quantlib_date() as today:
        peer, few = Peer(today), Peer(today, 10)
        ours = lambda: heston_price(MODEL, 100.0, *grid).ravel()
        same = (lambda x: x, lambda x: x)
        found = harness.compare(
            "heston", f"QuantLib {ql.__version__}", ours, peer.prices, same, len(peer.options), rounds
        )
        adaptive = few.prices(1e-12, 100_000)
        tenth = heston_price(MODEL, 100.0, STRIKES[None, ::10], grid[1]).ravel()
        seconds = harness.timed(lambda: few.prices(1e-12, 100_000), 3)
        parts = {
            "adaptive": {
                "n": len(tenth),
                "peer_s": round(seconds, 5),
                "max_rel_diff": harness.max_rel_diff(tenth, adaptive),
            },
            "fit": fits(rounds),
        }
    result = found | {"parts": parts}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result
