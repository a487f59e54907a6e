"pricing.quantlib: the global date is put back, the stretched clock changes nothing, and both sides agree."

import sys

import numpy as np
import pytest

from quantlab.core.errors import ConfigError
from quantlab.pricing.exotics import (
    Asian,
    Autocallable,
    Barrier,
    Bermudan,
    Digital,
    Lookback,
    barrier_price,
    estimate,
    heston_paths,
)
from quantlab.pricing.heston import HestonModel, heston_price
from quantlab.pricing.quantlib import quantlib_date, quantlib_exotic, quantlib_heston


def test_without_it_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "QuantLib", None)
    with pytest.raises(ConfigError, match=r"\[pricing\]"):
        quantlib_heston(HestonModel(0.04, 0.04, 1.0, 0.5, -0.5), 100.0, 100.0, 1.0)
    with pytest.raises(ConfigError, match=r"\[pricing\]"):
        quantlib_exotic(Digital(100.0), 100.0, 0.0, 0.0, 0.2, 1.0)


class TestWithIt:
    @pytest.fixture(autouse=True)
    def ql(self):
        return pytest.importorskip("QuantLib")

    def test_the_date_is_put_back(self, ql):
        settings = ql.Settings.instance()
        before, mine = settings.evaluationDate, ql.Date(15, 5, 2011)
        try:
            settings.evaluationDate = mine
            with quantlib_date() as today:
                assert settings.evaluationDate == today != mine
            quantlib_exotic(Bermudan(40.0), 36.0, 0.06, 0.06, 0.2, 1.0, 50, 20)
            assert settings.evaluationDate == mine
            with pytest.raises(ZeroDivisionError), quantlib_date():
                raise ZeroDivisionError
            with pytest.raises(ConfigError):
                quantlib_exotic(Bermudan(40.0), 36.0, 0.06, 0.06, 0.2, 1.0, dates=7)
            assert settings.evaluationDate == mine
        finally:
            settings.evaluationDate = before

    def test_published_and_ours(self):
        model = HestonModel(0.010201, 0.019, 6.21, 0.61, -0.7)
        discount = np.exp(-0.0319)
        assert abs(quantlib_heston(model, 100 / discount, 100.0, 1.0, discount) - 6.806113) < 1e-6
        rng = np.random.default_rng(3)
        for jump_rate in (0.0, 0.6):
            for _ in range(3):
                numbers = rng.uniform([0.01, 0.01, 0.5, 0.2, -0.9], [0.1, 0.1, 6.0, 1.5, 0.3])
                model = HestonModel(*numbers, jump_rate, -0.1, 0.12)
                strikes, years, call = np.array([60.0, 95.0, 100.0, 160.0]), np.array([[0.02], [0.7], [4.0]]), [[True]]
                ours = heston_price(model, 100.0, strikes, years, 0.97, call)
                theirs = quantlib_heston(model, 100.0, strikes, years, 0.97, call, tolerance=1e-12)
                assert np.allclose(ours, theirs, atol=2e-7)
        assert quantlib_heston(model, 100.0, strikes, 1.0, 1.0, False).shape == (4,)

    def test_the_clock_stretches(self):
        for years in (0.3, 0.5, 1.7):
            contract = Barrier(100.0, 92.0, rebate=2.0)
            exact = barrier_price(contract, 100.0, 0.05, 0.02, 0.3, years)
            assert np.isclose(quantlib_exotic(contract, 100.0, 0.05, 0.02, 0.3, years), exact, atol=1e-9)

    def test_every_closed_form_of_a_barrier(self):
        for down, barrier in ((True, 90.0), (False, 112.0)):
            for knock_in in (False, True):
                for call in (True, False):
                    for strike in (80.0, 100.0, 120.0):
                        contract = Barrier(strike, barrier, down, knock_in, call, 2.5)
                        exact = barrier_price(contract, 100.0, 0.08, 0.04, 0.25, 0.5)
                        assert np.isclose(quantlib_exotic(contract, 100.0, 0.08, 0.04, 0.25, 0.5), exact, atol=1e-9)

    def test_early_exercise(self):
        cases = ((36.0, 0.2, 1, 4.4778), (36.0, 0.2, 2, 4.8402), (36.0, 0.4, 1, 7.1012), (40.0, 0.2, 1, 2.3140))
        for spot, volatility, years, price in cases:
            found = quantlib_exotic(Bermudan(40.0), spot, 0.06, 0.06, volatility, years, 50 * years, 300)
            assert abs(found - price) < 5e-4
        assert quantlib_exotic(Bermudan(40.0), 36.0, 0.06, 0.06, 0.2, 1) > 4.484

    def test_heston_by_differences(self):
        model, contract = HestonModel(0.04, 0.05, 2.0, 0.5, -0.6), Barrier(100.0, 90.0)
        paths = heston_paths(model, 100.0, 0.03, 0.03, np.linspace(0, 0.5, 51), 20_000, seed=2)
        found = quantlib_exotic(contract, 100.0, 0.03, 0.03, model, 0.5, grid=80)
        assert estimate(contract.present_values(paths)).errors_from(found) < 3

    def test_what_is_refused(self):
        bates = HestonModel(0.04, 0.05, 2.0, 0.5, -0.6, 0.1, -0.1, 0.1)
        for contract, volatility, dates, match in (
            (Autocallable(1, 1, 1, 1, 1), 0.2, 0, "simulate"),
            (Asian(100.0), 0.2, 10, "geometric"),
            (Asian(100.0, geometric=True), 0.2, 7, "divide 3600"),
            (Bermudan(100.0), 0.2, 7, "divides 3600"),
            (Barrier(100.0, 90.0), bates, 0, "Bates"),
            (Lookback(), HestonModel(*bates.numbers[:5]), 0, "simulate"),
        ):
            with pytest.raises(ConfigError, match=match):
                quantlib_exotic(contract, 100.0, 0.0, 0.0, volatility, 1.0, dates)
