"""Hidden leaks are caught and their clean twins pass: few dates, text, memory, and functions that look who watches."""

import sys
from pathlib import Path

import numpy as np
import pytest

from quantlab.core.audit import LEAK, NOT_ASSESSED, PASS, audit, audit_each

sys.path.insert(0, str(Path(__file__).parent))
import rare  # noqa: E402
from rare import HIDDEN, RARE  # noqa: E402
from zoo import market  # noqa: E402

each = pytest.mark.parametrize("pair", HIDDEN, ids=lambda p: p.name)


@pytest.fixture(scope="module")
def panel():
    return market(seed=0)


@pytest.fixture(autouse=True)
def no_file():
    rare.FILE.unlink(missing_ok=True)
    yield
    rare.FILE.unlink(missing_ok=True)


@each
def test_the_leak_is_caught_and_the_twin_passes(pair, panel):
    pair.leak(panel)  # it has seen the whole history before anybody asks
    rare.FILE.unlink(missing_ok=True)
    assert audit(pair.leak, panel, 3, pair.name).status == pair.verdict
    verdict = audit(pair.twin, panel, 3, pair.name)
    assert verdict.status == PASS, verdict


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@each
def test_on_other_markets_too(pair, seed):
    other = market(seed, n_dates=280 + 40 * seed, n_symbols=6)
    assert audit(pair.leak, other, name=pair.name).status == pair.verdict
    assert audit(pair.twin, other, name=pair.name).status == PASS


@pytest.mark.parametrize("pair", RARE[:5], ids=lambda p: p.name)
def test_six_cuts_alone_would_miss_a_leak_on_few_dates(pair, panel):
    """The zoo's animals are hidden: without the pass over every date they look clean, and the verdict says how
    little was seen."""
    verdict = audit(pair.leak, panel, every_date=False)
    assert verdict.status == PASS and verdict.examined < 0.03 and "2% of the dates" in verdict.reason


def test_the_verdict_says_what_share_was_examined(panel):
    by_name, together, forever = (audit(pair.twin, panel) for pair in (RARE[0], RARE[10], RARE[11]))
    assert by_name.examined == 1.0 and "each name by itself" in by_name.reason
    assert together.examined == 1.0 and "false days in turn" in together.reason
    assert 0.2 < forever.examined < 0.5 and "cut one by one" in forever.reason


def test_the_date_of_a_rare_leak_is_one_of_its_days(panel):
    verdict = audit(RARE[4].leak, panel)
    assert (verdict.date.month, verdict.date.day) == (9, 10)


def test_a_list_reports_each_by_its_own_name(panel):
    def honest(p):
        return p["close"]

    def peeking(p):
        return p["close"].groupby(level="symbol").shift(-1)

    verdicts = audit_each([honest, peeking, honest], panel)
    assert [(v.function, v.status) for v in verdicts] == [("honest (1)", PASS), ("peeking", LEAK), ("honest (2)", PASS)]


def test_an_audit_leaves_no_memory_behind(panel):
    rare.MEANS.clear()
    audit(rare.in_a_global_dict, panel)
    assert rare.MEANS == {} and rare.SETTINGS == {"window": 10}


def test_what_fails_on_the_whole_panel_is_not_assessed_and_no_traceback(panel):
    for broken, words in (
        (lambda p: p["nothing"], "KeyError"),
        (lambda p: np.ones(3), "return a Series"),
        (lambda p: p["close"].reset_index(drop=True), "index it by"),
    ):
        verdict = audit(broken, panel)
        assert verdict.status == NOT_ASSESSED and words in verdict.reason
