"""Count what makes a notebook hard to read: long runs of code that shows nothing, long functions, words with two meanings.

Usage: python scripts/house.py [--report] [--all] [--save before|after]

- In a row: exported lines (not blank, no `#|` directive, cells of imports left out) between two demonstrations. A
  demonstration is a cell that is not exported, not only imports and not the export call, and that displays or asserts
  something. More than 80 in a row fail; 40 is the aim. `--report` only prints.
- Lengths of functions and classes are those of the notebooks' cells, with their signature and their one-line docstring.
- Two meanings: one public name (in a module's `__all__`) that two modules define.
- A parameter is documented by its comment; the sections are those that `scripts/export.py` writes.

`--save` stores the figures under that key of bench/results/house.json.
"""

import argparse
import ast
import io
import json
import re
import statistics
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "house.json"
AIM, LIMIT, WIDTH = 40, 80, 120  # exported lines in a row: hoped for, allowed; characters in a line
DIRECTIVE = re.compile(r"^#\|\s*export", re.M)


def parse(source: str) -> ast.Module:
    "Parse a cell, without its directives and shell lines."
    return ast.parse("\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()))


def code_lines(source: str) -> int:
    "Count the lines of a cell that are neither blank nor a directive."
    return sum(bool(line.strip()) and not line.startswith("#|") for line in source.splitlines())


def only_imports(tree: ast.Module) -> bool:
    "Say whether a cell holds imports and nothing else (or nothing at all)."
    guarded = lambda n: isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
    return all(isinstance(n, (ast.Import, ast.ImportFrom)) or guarded(n) for n in tree.body)


def demonstrates(cell: dict, source: str) -> bool:
    "Say whether a cell that is not exported displays or asserts something."
    if "nbdev_export(" in source or "scripts/export.py" in source:
        return False
    tree = parse(source)
    if only_imports(tree):
        return False
    shows = isinstance(tree.body[-1], ast.Expr) and not isinstance(tree.body[-1].value, ast.Constant)
    return bool(cell.get("outputs")) or shows or any(isinstance(n, ast.Assert) for n in ast.walk(tree))


def code_cells(file: Path) -> list[tuple[dict, str]]:
    "Return the code cells of a notebook that hold something, each with its source as one text."
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    found = [(c, c["source"] if isinstance(c["source"], str) else "".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    return [(c, source) for c, source in found if source.strip()]


def lines_in_a_row(file: Path) -> list[int]:
    "Return the exported lines of each stretch between two demonstrations of a notebook."
    runs = [0]
    for cell, source in code_cells(file):
        if DIRECTIVE.search(source):
            runs[-1] += 0 if only_imports(parse(source)) else code_lines(source)
        elif demonstrates(cell, source):
            runs.append(0)
    return [run for run in runs if run] or [0]


def exported(file: Path) -> str:
    "Return what a notebook exports, cell after cell."
    return "\n\n".join(source for _, source in code_cells(file) if DIRECTIVE.search(source))


def lengths(code: str) -> tuple[dict[str, int], dict[str, int]]:
    "Return the lines of each function and of each class, decorators left out."
    tree = ast.parse(code)
    size = lambda n: n.end_lineno - n.lineno + 1
    methods = {id(m): f"{c.name}.{m.name}" for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for m in c.body if isinstance(m, (ast.FunctionDef, ast.AsyncFunctionDef))}
    functions = {methods.get(id(n), n.name): size(n) for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return functions, {n.name: size(n) for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}


def public_names(file: Path) -> list[str]:
    "Return the names of a module's `__all__`."
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = [n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"]
    return ast.literal_eval(found[0]) if found else []


def modules() -> dict[str, Path]:
    "Return the exported modules by their name without the package's."
    return {f"{f.parent.name}.{f.stem}": f for f in sorted((ROOT / "quantlab").glob("*/[a-z]*.py"))}


def two_meanings() -> dict[str, list[str]]:
    "Return the public names that more than one module defines, with those modules."
    where = defaultdict(list)
    for module, file in modules().items():
        for name in dict.fromkeys(public_names(file)):
            where[name].append(module)
    return {name: places for name, places in sorted(where.items()) if len(places) > 1}


def comments(code: str) -> dict[int, tuple[str, bool]]:
    "Return the comments by line, each with whether it has the line for itself."
    found, lines = {}, code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#|", "# %%")):
            alone = not lines[token.start[0] - 1][: token.start[1]].strip()
            found[token.start[0]] = (token.string.lstrip("# ").strip(), alone)
    return found


def parameters(function: ast.FunctionDef) -> list[tuple[str, ast.arg, ast.expr | None]]:
    "Return (name with its stars, argument, default) of a function, without self."
    a = function.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    found = [(p.arg, p, d) for p, d in zip(plain, defaults, strict=True)]
    found += [(f"*{p.arg}", p, None) for p in [a.vararg] if p]
    found += [(p.arg, p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    found += [(f"**{p.arg}", p, None) for p in [a.kwarg] if p]
    return [(name, arg, default) for name, arg, default in found if name not in ("self", "cls")]


def told(first: int, last: int, said: dict[int, tuple[str, bool]], taken: set[int]) -> str:
    "Return the comment behind the lines of a parameter or field, with the lines of comment above it that are nobody else's."
    above, line = [], first - 1
    while line in said and said[line][1] and line not in taken:
        above.insert(0, said[line][0])
        line -= 1
    behind = [said[last][0]] if last in said and not said[last][1] else []
    return " ".join(above + behind)


def documented(function: ast.FunctionDef, code: str) -> dict[str, str]:
    "Return what the comments say of each parameter of a function and, under `return`, of its result; empty = nothing."
    said, given = comments(code), parameters(function)
    ends = {name: max(p.end_lineno, d.end_lineno if d else 0) for name, p, d in given}
    shared = {line for line in ends.values() if list(ends.values()).count(line) > 1}
    lonely = lambda name, p: p.lineno != function.lineno and ends[name] not in shared
    found = {name: told(p.lineno, ends[name], said, set()) if lonely(name, p) else "" for name, p, _ in given}
    if function.returns is not None:
        line = function.returns.end_lineno
        found["return"] = said[line][0] if line in said else ""
    return found


def undocumented(code: str, public: list[str]) -> list[str]:
    "Return the public functions, methods and constructors with a parameter that no comment documents, as name(parameter, ...)."
    found = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef) and node.name in public:
            found.append((node.name, node))
        if isinstance(node, ast.ClassDef) and node.name in public:
            methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and (m.name == "__init__" or not m.name.startswith("_"))]
            found += [(node.name if m.name == "__init__" else f"{node.name}.{m.name}", m) for m in methods]
    gaps = {name: [p for p, text in documented(f, code).items() if not text and p != "return"] for name, f in found}
    return [f"{name}({', '.join(gap)})" for name, gap in gaps.items() if gap]


def without_sections(file: Path, public: list[str]) -> list[str]:
    "Return the public functions and classes of a module whose docstring has no numpydoc sections."
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name in public]
    return [n.name for n in nodes if not re.search(r"^\s*(Parameters|Returns|Yields|Attributes|Examples)\n\s*-{3,}$", ast.get_docstring(n, clean=False) or "", re.M)]


def too_wide(code: str) -> int:
    return sum(len(line) > WIDTH for line in code.splitlines())


def measure() -> dict:
    "Return every figure of the house, per notebook and in total."
    per, functions, classes, gaps, bare = {}, {}, {}, {}, {}
    wide = {"exported": 0, "other cells": 0, "scripts, tests, bench": 0}
    for file in sorted((ROOT / "nbs").glob("*/[0-9][0-9][0-9]_*.ipynb"), key=lambda f: (f.name, f.parent.name)):
        runs, code, module = lines_in_a_row(file), exported(file), f"{file.parent.name}.{file.stem[4:]}"
        mine, kinds = lengths(code)
        functions |= {f"{module}.{name}": n for name, n in mine.items()}
        classes |= {f"{module}.{name}": n for name, n in kinds.items()}
        public = public_names(modules()[module])
        gaps |= {module: found} if (found := undocumented(code, public)) else {}
        bare |= {module: found} if (found := without_sections(modules()[module], public)) else {}
        wide["exported"] += too_wide(code)
        wide["other cells"] += sum(too_wide(source) for _, source in code_cells(file) if not DIRECTIVE.search(source))
        per[file.relative_to(ROOT / "nbs").as_posix()] = {
            "exported_lines": sum(runs), "median_in_a_row": statistics.median(runs), "most_in_a_row": max(runs),
            "longest_function": max(mine.values(), default=0), "longest_class": max(kinds.values(), default=0), "lines_over_120": too_wide(code),
        }  # fmt: skip
    wide["scripts, tests, bench"] = sum(too_wide(f.read_text(encoding="utf-8")) for d in ("scripts", "tests", "bench") for f in (ROOT / d).rglob("*.py"))
    return {"notebooks": per, "functions": functions, "classes": classes, "two_meanings": two_meanings(), "undocumented": gaps, "without_sections": bare, "lines_over_120": wide}


def totals(found: dict) -> dict[str, float]:
    "Return the figures of the house in total, a name to a number."
    most = [n["most_in_a_row"] for n in found["notebooks"].values()]
    functions, classes = list(found["functions"].values()), list(found["classes"].values())
    return {
        "notebooks": len(most), "exported_lines": sum(n["exported_lines"] for n in found["notebooks"].values()),
        "median_of_most_in_a_row": statistics.median(most), "most_in_a_row": max(most),
        "notebooks_over_40": sum(n > AIM for n in most), "notebooks_over_80": sum(n > LIMIT for n in most),
        "functions": len(functions), "median_function": statistics.median(functions), "longest_function": max(functions), "functions_over_40": sum(n > 40 for n in functions),
        "classes": len(classes), "median_class": statistics.median(classes), "longest_class": max(classes),
        "names_with_two_meanings": len(found["two_meanings"]), "names_with_undocumented_parameters": sum(map(len, found["undocumented"].values())),
        "names_without_sections": sum(map(len, found["without_sections"].values())),
        **{f"lines_over_120_{re.sub('[^a-z]+', '_', k)}": n for k, n in found["lines_over_120"].items()},
    }  # fmt: skip


def show(found: dict, everything: bool, console: Console) -> None:
    "Print the notebooks (those past the aim, or all), the longest functions and the totals."
    table = Table("notebook", "exported", "median in a row", "most in a row", "function", "class", "> 120", title=f"Exported lines in a row without a demonstration (aim {AIM}, limit {LIMIT})")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, n in sorted(found["notebooks"].items(), key=lambda item: -item[1]["most_in_a_row"]):
        if everything or n["most_in_a_row"] > AIM:
            style = "red" if n["most_in_a_row"] > LIMIT else "yellow" if n["most_in_a_row"] > AIM else ""
            table.add_row(name, *(f"{n[k]:g}" for k in ("exported_lines", "median_in_a_row", "most_in_a_row", "longest_function", "longest_class", "lines_over_120")), style=style)
    console.print(table)
    for kind in ("functions", "classes"):
        longest = sorted(found[kind].items(), key=lambda item: -item[1])[:10]
        console.print(f"longest {kind}: " + ", ".join(f"{name} {n}" for name, n in longest), highlight=False)
    for title, listed in (("two meanings", found["two_meanings"]), ("parameters without a comment", found["undocumented"]), ("no sections", found["without_sections"])):
        console.print(f"\n[bold]{title}[/bold]: {sum(map(len, listed.values())) if title != 'two meanings' else len(listed)}" + ("" if everything or not listed else "   (--all lists them)"))
        for name, places in listed.items() if everything else ():
            console.print(f"  {name}: " + ", ".join(places), highlight=False, markup=False)
    table = Table("total", "figure", title="The house")
    table.columns[1].justify = "right"
    for name, value in totals(found).items():
        table.add_row(name.replace("_", " "), f"{value:g}")
    console.print(table)


def save(key: str, figures: dict) -> None:
    "Store the figures under a key of the results, beside the other key's."
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    lean = {"totals": totals(figures), **{k: figures[k] for k in ("notebooks", "two_meanings", "undocumented", "without_sections")}}
    RESULTS.write_text(json.dumps(stored | {key: lean}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="only print: the exit code is 0")
    parser.add_argument("--all", action="store_true", help="list every notebook, and the names that are counted")
    parser.add_argument("--save", choices=["before", "after"], help="store the figures in bench/results/house.json")
    chosen = parser.parse_args()
    found = measure()
    show(found, chosen.all, Console(width=None if sys.stdout.isatty() else 150))
    if chosen.save:
        save(chosen.save, found)
    over = [f"{name}: {n['most_in_a_row']}" for name, n in found["notebooks"].items() if n["most_in_a_row"] > LIMIT]
    if over and not chosen.report:
        print(f"\nMore than {LIMIT} exported lines in a row without a demonstration:", *over, sep="\n  ")
        print("Cut the code where an idea ends and show its result in the next cell.")
    return int(bool(over) and not chosen.report)


if __name__ == "__main__":
    sys.exit(main())
