"The key of a trial follows what the code does: not how it is told, and not what no stage reads."

import shutil

import pytest

from quantlab.core.cache import off
from quantlab.core.config import root
from quantlab.recipe import evidence
from quantlab.recipe.evidence import _modules, _sources, _statements, _used, code_hash, recipe_key
from quantlab.recipe.spec import Recipe, load

STAGES = ("quantlab.recipe.stages",)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    "A copy of the package, whose files can be changed."
    home = tmp_path_factory.mktemp("house") / "quantlab"
    shutil.copytree(root() / "quantlab", home, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    return home


@pytest.fixture
def hashed(house, monkeypatch):
    "Hash the copy as it lies there now, kept by nobody."
    files = {f"quantlab.{'.'.join(f.relative_to(house).with_suffix('').parts)}": f for f in house.rglob("*.py")}
    monkeypatch.setattr(evidence, "_modules", lambda top: files)

    def now():
        _sources.cache_clear()
        with off():
            return _sources(STAGES)

    yield now
    _sources.cache_clear()


def changed(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{old} is no longer in {file.name}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return lambda: file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "moves"),
    [
        ("backtest/costs.py", "bps / 10_000", "bps / 10_001", True),
        ("features/base.py", "import numpy as np", "import numpy as np\nmore = 1", True),
        ("labels/forward.py", '    """', '    """Say it otherwise. ', False),
        ("backtest/engine.py", "def from_weights(", "# a remark\ndef from_weights(", False),
        ("report/looks.py", "import numpy as np", "import numpy as np\nmore = 1", False),
        ("backtest/montecarlo.py", "import numpy as np", "import numpy as np\nmore = 1", False),
        ("ops/registry.py", "import ", "import sys\nimport ", False),
    ],
)
def test_a_changed_number_in_a_used_module_is_another_key_and_nothing_else_is(house, hashed, file, old, new, moves):
    before, back = hashed(), changed(house / file, old, new)
    try:
        assert (hashed() != before) is moves
    finally:
        back()


def test_what_is_used_is_what_the_stages_import():
    used = _used(STAGES, _modules("quantlab"))
    assert set(used) <= set(_modules("quantlab")) and len(used) < len(_modules("quantlab")) * 0.7
    for room in ("report", "ops", "commands", "strategy.examples", "importer"):
        assert not any(name.startswith(f"quantlab.{room}") for name in used), room
    for name in ("backtest.engine", "data.read", "models.gbm", "labels.forward"):
        assert f"quantlab.{name}" in used


def test_docstrings_and_comments_are_no_code_and_strings_are():
    plain = "def f(x):\n    return x + 1\nclass A:\n    pass\n"
    told = '"A module."\ndef f(x):  # comment\n    """Add."""\n    return x + 1\nclass A:\n    "Empty."\n'
    assert _statements(plain, "m")[0] == _statements(told, "m")[0]
    assert _statements("x = 'one'", "m")[0] != _statements("x = 'two'", "m")[0]
    brought = _statements("from ..core import cache\nimport os.path\ndef f():\n    from . import late", "a.b.c")[1]
    assert {"a.core", "a.core.cache", "os.path", "a.b", "a.b.late"} == brought


def test_a_part_of_ones_own_counts_with_what_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "ownparts"
    package.mkdir()
    for name, text in {"__init__": "", "policy": "from ownparts.helper import N\n", "helper": "N = 3\n"}.items():
        (package / f"{name}.py").write_text(text)
    (package / "aside.py").write_text("M = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    roots = (*STAGES, "ownparts.policy")

    def now():
        _sources.cache_clear()
        return _sources(roots)

    first = now()
    (package / "aside.py").write_text("M = 2\n")
    assert now() == first != _sources(STAGES)
    (package / "helper.py").write_text("N = 4  # more\n")
    assert now() != first
    (package / "helper.py").write_text("N = 3  # as before\n")
    assert now() == first


def test_names_order_and_remarks_on_the_page_do_not_count(tmp_path):
    one = Recipe()
    page, other = one.save("-"), tmp_path / "other.yaml"
    blocks = []
    for line in page.splitlines():
        if line and not line.startswith((" ", "#", "-")):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    other.write_text("# a remark\n" + "\n".join("\n".join(b) for b in reversed(blocks)) + "\n")
    again = load(other)
    assert recipe_key(again, "0") == recipe_key(one, "0") == recipe_key(one.replace("title", "Else"), "0")
    assert recipe_key(one.replace("seed", one.seed + 1), "0") != recipe_key(one, "0") != recipe_key(one, "1")


def test_the_hash_is_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTLAB_RESEARCH_CACHE", str(tmp_path))
    _sources.cache_clear()
    first = code_hash(Recipe())
    monkeypatch.setattr(evidence, "_used", lambda *a: pytest.fail("read again"))
    _sources.cache_clear()
    assert code_hash(Recipe()) == first and len(first) == 64
