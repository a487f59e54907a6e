"""The page about parity: one recipe over the same two months as backtest, on paper and at a stand-in of a venue."""

import json
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from quantlab.core.errors import QuantlabError
from quantlab.report.run import run_report

sys.path.insert(0, str(Path(__file__).parents[1] / "execution"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"first": "soon"}, "first"), ({"capital": "-5"}, "capital"), ({"paper": "/nowhere"}, "paper is /nowhere"),
        ({"live": "/nowhere"}, "live is /nowhere"), ({"quotes": "none.csv"}, "file none.csv does not exist"),
        ({"quotes": "README.md"}, "name its folder with live"), ({"recipe": "momentom"}, "momentum"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_a_kernel(wrong, said):
    with pytest.raises(QuantlabError, match=said):
        run_report("parity", wrong, track=False)


@pytest.mark.slow
def test_three_accounts_on_one_page_and_a_planted_cent(tmp_path):
    from test_parity import SPEC, TERMS, at_the_venue

    from quantlab.execution.trader import Trader

    trader = Trader(SPEC, tmp_path / "paper", TERMS)
    while trader.step():
        pass
    with pytest.MonkeyPatch.context() as patch:
        _, _, quotes = at_the_venue(tmp_path / "live", patch, [("XOM", {"parts": ("100",), "only_parts": True})])
    quotes.to_csv(tmp_path / "quotes.csv", index=False)
    given = {
        "universe": SPEC.data.universe, "end": SPEC.data.end, "top_k": 3, "buffer": 0, "paper": str(tmp_path / "paper"),
        "live": str(tmp_path / "live"), "quotes": str(tmp_path / "quotes.csv"),
    }  # fmt: skip
    run = run_report("parity", given, tmp_path / "runs", track=False)
    left = {name: value for name, value in run.metrics.items() if name.endswith("unexplained")}
    assert len(left) == 5 and set(left.values()) == {0.0}
    page = run.html.read_text()
    assert "every cent has a cause" in page and "cancelled" in page and "paper to live" in page

    store = sqlite3.connect(tmp_path / "live" / "trader" / "orders.sqlite")
    book = json.loads(store.execute("SELECT value FROM facts WHERE name = 'venue.book'").fetchone()[0])
    book["cash"] = str(Decimal(book["cash"]) - Decimal("0.01"))
    store.execute("UPDATE facts SET value = ? WHERE name = 'venue.book'", (json.dumps(book),))
    store.commit()
    planted = run_report("parity", given, tmp_path / "runs", track=False)
    assert planted.metrics["live.unexplained"] == planted.metrics["paper_to_live.unexplained"] == 0.01
    assert planted.metrics["paper.unexplained"] == 0 and "not explained: 0.01 of live" in planted.html.read_text()
