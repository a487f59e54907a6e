"Words: no public name means two things, banned words do not come back, and the glossary names what there is."

import ast
import importlib
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Words that a quant would look for in vain or be misled by; what took their place is in CHANGELOG.md.
BANNED_NAMES = {"Book", "Desk", "HAIR", "WORDS", "papers", "equities", "desk_result", "trip_summary", "shuffle_trips"}
BANNED_ANYWHERE = re.compile(r"(^|_)(desk|wish|wishes|hair|equities)(_|$)", re.IGNORECASE)
BANNED_MODULES = {"broker.statement", "broker.trips"}
# One word for each: top_k, lookback, rebalance, train_sessions. A field or parameter of a public callable has no other.
BANNED_PARAMETERS = {"k", "window", "every", "train", "trips", "wish", "words"}


def modules() -> dict[str, ast.Module]:
    files = sorted((ROOT / "quantlab").glob("*/[a-z]*.py"))
    return {f"{file.parent.name}.{file.stem}": ast.parse(file.read_text(encoding="utf-8")) for file in files}


def public(tree: ast.Module) -> list[str]:
    "Return what a module says is public."
    [names] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ] or [[]]
    return names


def meanings(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    "Return the modules that make each public name, without those that pass on what another made."
    found = defaultdict(list)
    for module, tree in trees.items():
        brought = {
            alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        for name in public(tree):
            if name not in brought:
                found[name].append(module)
    return found


def parameters(tree: ast.Module) -> dict[str, set[str]]:
    "Return the parameters of each public function, and the fields of each public class."
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in public(tree):
            found[node.name] = {a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
        if isinstance(node, ast.ClassDef) and node.name in public(tree):
            inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
            found[node.name] = fields | {a.arg for init in inits for a in init.args.args}
    return found


TREES = modules()


def test_there_is_something_to_read():
    assert len(TREES) > 80 and len(meanings(TREES)) > 600


def test_no_public_name_means_two_things():
    assert {name: homes for name, homes in meanings(TREES).items() if len(homes) > 1} == {}


def test_a_second_meaning_would_be_found():
    "The check itself: two modules that make one name, and one that only passes it on."
    one, two = ast.parse("__all__ = ['f']\ndef f(): pass"), ast.parse("__all__ = ['f']\nf = 1")
    passes = ast.parse("__all__ = ['f']\nfrom .one import f")
    assert meanings({"a": one, "b": two, "c": passes})["f"] == ["a", "b"]


def test_banned_words_do_not_come_back():
    back = {
        f"{m}.{n}" for m, tree in TREES.items() for n in public(tree) if n in BANNED_NAMES or BANNED_ANYWHERE.search(n)
    }
    assert back == set() and BANNED_MODULES & set(TREES) == set()


def test_one_word_for_each_parameter():
    back = {
        f"{m}.{name}": taken & BANNED_PARAMETERS
        for m, tree in TREES.items()
        for name, taken in parameters(tree).items()
    }
    assert {name: words for name, words in back.items() if words} == {}


GLOSSARY = json.loads((ROOT / "nbs" / "glossary.ipynb").read_text(encoding="utf-8"))
ROW = re.compile(r"^\| (.+?) \| (.+?) \| (.+?) \| `(\w+)` \| \[([\w.]+)\]\(([\w/.]+)\) \|$", re.M)
TEXT = "\n".join("".join(cell["source"]) for cell in GLOSSARY["cells"])
ROWS = ROW.findall(TEXT)


def test_every_row_of_the_glossary_is_read():
    assert len(ROWS) == len([line for line in TEXT.splitlines() if line.startswith("| ")]) - TEXT.count(
        "| in the field |"
    )
    assert len(ROWS) > 60 and all(len(meaning) < 160 for _, _, meaning, *_ in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[4]}.{row[3]}")
def test_what_the_glossary_names_is_there(row):
    _, _, _, name, module, link = row
    file = ROOT / "nbs" / link
    assert file.is_file() and f"{file.parent.name}.{file.stem[4:]}" == module
    assert name in public(TREES[module]) and hasattr(importlib.import_module(f"quantlab.{module}"), name)


def test_parameters_in_the_glossary_belong_to_their_name():
    "A word of code in the second column is a parameter, a field or a column that the named module speaks of."
    for _, house, _, name, module, _ in ROWS:
        source = (ROOT / "quantlab" / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        for word in re.findall(r"`(\w+)`", house):
            assert re.search(rf"\b{word}\b", source), f"{module}.{name} knows no {word}"


@pytest.mark.parametrize("term", [
    "fill model", "order book", "simulator", "slippage", "look-ahead bias", "survivorship bias", "leakage",
    "point-in-time", "blotter",
    "position sizing", "information coefficient",
])  # fmt: skip
def test_the_field_s_terms_stand_in_titles(term):
    "A search for the field's word finds the notebook by its title or its question, and the glossary."
    heads = [
        "".join(json.loads(f.read_text(encoding="utf-8"))["cells"][0]["source"])
        for f in (ROOT / "nbs").glob("*/*.ipynb")
    ]
    assert any(term in head.lower() for head in heads) and term in TEXT.lower()
