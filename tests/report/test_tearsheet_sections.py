"The tearsheet's sections on risk and attribution: absent unless asked for, beside a page that does not change."

import json

import pytest

from quantlab.report.run import run_report
from quantlab.report.template import find_template, read_cells, read_parameters

SMALL = {
    "recipe": "momentum", "universe": "AAPL,BAC,CVX,GE,IBM,JNJ,JPM,KO,MSFT,PFE,WMT,XOM", "start": "2013-01-02",
    "end": "2018-12-31", "top_k": 4, "buffer": 1, "max_weight": 0.25, "reconcile": "none", "draws": 10,
}  # fmt: skip
ASKED = ("risk", "attribution")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    for name in ("RUNS", "LEDGER", "TRACKING"):
        monkeypatch.setenv(f"QUANTLAB_RESEARCH_{name}", str(tmp_path / name.lower()))


def test_nobody_is_shown_what_nobody_asked_for():
    template = find_template("tearsheet")
    parameters = read_parameters(template)
    assert all(parameters[name].default is False for name in ASKED)
    cells = read_cells(template)
    titles = [line for c in cells if c["cell_type"] == "markdown" for line in c["source"].splitlines()]
    assert not {"## Risk", "## Attribution"} & set(titles)  # a heading of an empty section would stay on the page
    for name in ASKED:
        shown = next(c["source"] for c in cells if f'display(Markdown("## {name.capitalize()}"))' in c["source"])
        after = shown[shown.index(f"if {name}:") :].splitlines()[1:]
        assert all(line.startswith("    ") for line in after if line)  # everything of it hangs on the parameter


def shown(run) -> list[tuple[str, str]]:
    "Return each cell with what it displayed, as text, the numbers for the runner left out."
    found = []
    for cell in json.loads((run.html.parent / "report.ipynb").read_text())["cells"]:
        outputs = [o.get("data", {}) for o in cell.get("outputs", [])]
        outputs = [d for d in outputs if not any("quantlab" in kind for kind in d)]
        found.append(("".join(cell["source"]), json.dumps(outputs, sort_keys=True)))
    return found


@pytest.mark.slow
def test_the_sections_add_and_change_nothing():
    plain = run_report("tearsheet", SMALL, track=False)
    head = {"ledger_head": json.loads((plain.html.parent / "manifest.json").read_text())["parameters"]["ledger_head"]}
    asked = run_report("tearsheet", SMALL | dict.fromkeys(ASKED, True) | head, track=False)
    added = set(asked.metrics) - set(plain.metrics)
    assert not set(plain.metrics) - set(asked.metrics)
    assert {name.split(".")[0] for name in added} == set(ASKED) and len(added) > 20
    assert all(asked.metrics[name] == plain.metrics[name] for name in plain.metrics)
    for (source, before), (_, after) in zip(shown(plain), shown(asked), strict=True):
        if any(f'Markdown("## {name.capitalize()}")' in source for name in ASKED):
            assert before == "[]" and len(after) > 1000
        elif "parameters" not in source and "injected" not in source:
            assert before == after, source[:80]
    assert ">Risk<" not in plain.html.read_text() and ">Attribution<" not in plain.html.read_text()
    page = asked.html.read_text()
    for words in (">Risk<", ">Attribution<", "with 99 % confidence", "Crises.", "Liquidity.", "Of a mean of"):
        assert words in page, words
    assert "Traceback" not in page
    parts = [asked.metrics[f"attribution.{name}"] for name in ("alpha", "market", "size", "momentum")]
    assert sum(parts) == pytest.approx(asked.metrics["attribution.total"], abs=1e-12)
    assert 0.5 < asked.metrics["attribution.beta.market"] < 1.5 and asked.metrics["risk.loss.2020"] > 0.1


@pytest.mark.slow
def test_sections_of_a_universe_too_small_say_so():
    few = SMALL | {"universe": "AAPL,KO,XOM,JPM", "top_k": 2} | dict.fromkeys(ASKED, True)
    page = run_report("tearsheet", few, track=False).html.read_text()
    assert "Size and momentum are left out" in page and "Traceback" not in page
