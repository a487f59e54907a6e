"""Every planted leak is caught, every clean twin passes, on markets the audit was not tuned on."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from quantlab.core.audit import CHANGES, LEAK, PASS, audit

sys.path.insert(0, str(Path(__file__).parent))
from zoo import ZOO, market, wide  # noqa: E402

EVERY_DATE = ("features", "joins", "universe")  # the other floors are examined on every date by the slow tests
each = pytest.mark.parametrize("pair", ZOO, ids=lambda p: f"{p.level}: {p.name}")


@pytest.fixture(scope="module")
def panel():
    return market(seed=0)


@each
def test_the_leak_is_caught(pair, panel):
    verdict = audit(pair.leak, panel, pair.cuts, pair.name, every_date=False)
    assert verdict.status == LEAK, verdict
    assert verdict.change in CHANGES and verdict.date <= panel.index.get_level_values("date").max()


@each
def test_the_clean_twin_passes(pair, panel):
    verdict = audit(pair.twin, panel, pair.cuts, pair.name, every_date=pair.level in EVERY_DATE)
    assert verdict.status == PASS, verdict


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@each
def test_on_other_markets_too(pair, seed):
    other = market(seed, n_dates=280 + 13 * seed, n_symbols=6)
    assert audit(pair.leak, other, pair.cuts).status == LEAK
    assert audit(pair.twin, other, pair.cuts).status == PASS


def test_the_zoo_is_large_and_balanced():
    assert len(ZOO) >= 25 and len({p.name for p in ZOO}) == len(ZOO)
    assert len(Counter(p.level for p in ZOO)) == 9


def test_a_leak_that_stands_still_without_the_future_moves_with_a_false_one(panel):
    "No price ever rises by half in a day, so nothing changes when tomorrow is removed."
    jump = wide(lambda w: (w.shift(-1) > 1.5 * w).astype(float) + w)
    verdict = audit(jump, panel)
    assert verdict.status == LEAK and verdict.change in ("shuffled", "scaled")
