"""Count what makes a notebook hard to read: long runs of code that shows nothing, long functions, ambiguous names.

Usage: python scripts/house.py [--report] [--all] [--save before|after] [--gaps]

- In a row: exported lines (not blank, no `#|` directive, cells of imports left out) between two demonstrations. A
  demonstration is a cell that is not exported, not only imports and not the export call, and that displays or asserts
  something. More than 80 in a row fail; 40 is the aim. `--report` only prints.
- Exported lines of more than 120 characters fail past a count that may only fall.
- Lengths of functions and classes are those of the notebooks' cells, with their signature and their one-line docstring.
- Two meanings: one public name (in a module's `__all__`) that two modules define.
- A parameter is documented by its comment; the sections are those that `scripts/export.py` writes.

tests/architecture/known_gaps.json lists the names with two meanings and what the sections still lack: a test refuses a
new one, and one that is listed and no more there. `--gaps` writes the list anew.

`--save` stores the figures under that key of bench/results/house.json.
"""

import argparse
import ast
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import sections
from notebook_code import Cell, Module, methods, parameters, read_modules
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "house.json"
GAPS = ROOT / "tests" / "architecture" / "known_gaps.json"
AIM, LIMIT, WIDTH = 40, 80, 120  # exported lines in a row: hoped for, allowed; characters in a line
WIDE = 18  # exported lines that are still wider; the count may only fall


def code_lines(source: str) -> int:
    "Count the lines of a cell that are neither blank nor a directive."
    return sum(bool(line.strip()) and not line.startswith("#|") for line in source.splitlines())


def only_imports(body: list[ast.stmt]) -> bool:
    "Say whether a cell holds imports and nothing else (or nothing at all)."
    guarded = lambda n: isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
    return all(isinstance(n, (ast.Import, ast.ImportFrom)) or guarded(n) for n in body)


def demonstrates(cell: Cell) -> bool:
    "Say whether a cell that is not exported displays or asserts something."
    if "nbdev_export(" in cell.source or "scripts/export.py" in cell.source or only_imports(cell.body):
        return False
    shows = isinstance(cell.body[-1], ast.Expr) and not isinstance(cell.body[-1].value, ast.Constant)
    return bool(cell.outputs) or shows or any(isinstance(n, ast.Assert) for s in cell.body for n in ast.walk(s))


def lines_in_a_row(cells: list[Cell]) -> list[int]:
    "Return the exported lines of each stretch between two demonstrations of a notebook."
    runs = [0]
    for cell in (c for c in cells if c.code):
        if cell.exported:
            runs[-1] += 0 if only_imports(cell.body) else code_lines(cell.source)
        elif demonstrates(cell):
            runs.append(0)
    return [run for run in runs if run] or [0]


def lengths(tree: ast.Module) -> tuple[dict[str, int], dict[str, int]]:
    "Return the lines of each function and of each class, decorators left out."
    size = lambda n: n.end_lineno - n.lineno + 1
    methods = {
        id(m): f"{c.name}.{m.name}"
        for c in ast.walk(tree)
        if isinstance(c, ast.ClassDef)
        for m in c.body
        if isinstance(m, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    functions = {
        methods.get(id(n), n.name): size(n)
        for n in ast.walk(tree)
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    return functions, {n.name: size(n) for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}


def two_meanings(modules: dict[str, Module]) -> dict[str, list[str]]:
    "Return the public names that more than one module defines, with those modules."
    where = defaultdict(list)
    for name, module in modules.items():
        listed = re.search(r"^__all__ = (\[.*?\])", exported(name), re.M | re.S)
        for public in ast.literal_eval(listed[1]) if listed else []:
            if public in {*module.assigned, *module.functions, *module.classes}:
                where[public].append(name)
    return {name: places for name, places in sorted(where.items()) if len(places) > 1}


def undocumented(module: Module) -> list[str]:
    "Return the public functions, methods and classes with a parameter that no comment documents: name(parameter, ...)."
    gaps = {name: module.slots(name) for name in module.public}
    inside = [(n, m) for n in module.public if n in module.classes for m in methods(module.classes[n])]
    gaps |= {f"{name}.{m.name}": parameters(m, module.said, module.code) for name, m in inside}
    return [
        f"{name}({', '.join(bare)})" for name, slots in gaps.items() if (bare := [s.name for s in slots if not s.text])
    ]


def gaps() -> dict:
    "Return the names with two meanings, and what the sections of each public name lack."
    modules, lacking = read_modules(), {}
    for name, module in modules.items():
        for public, what in sections.incomplete(module, exported(name)).items():
            lacking[f"{name}.{public}"] = ", ".join(what)
    return {"sections": lacking, "two_meanings": {n: ", ".join(places) for n, places in two_meanings(modules).items()}}


def exported(name: str) -> str:
    "Return the code of an exported module."
    return (ROOT / "quantlab" / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")


def too_wide(code: str) -> int:
    return sum(len(line) > WIDTH for line in code.splitlines())


def measure() -> dict:
    "Return every figure of the house, per notebook and in total."
    per, functions, classes, gaps, bare = {}, {}, {}, {}, {}
    wide = {"exported": 0, "other cells": 0, "scripts, tests, bench": 0}
    modules = read_modules()
    for name, module in modules.items():
        runs, code = lines_in_a_row(module.cells), module.code
        mine, kinds = lengths(module.tree)
        functions |= {f"{name}.{function}": n for function, n in mine.items()}
        classes |= {f"{name}.{cls}": n for cls, n in kinds.items()}
        gaps |= {name: found} if (found := undocumented(module)) else {}
        bare |= {name: list(found)} if (found := sections.incomplete(module, exported(name))) else {}
        wide["exported"] += too_wide(code)
        wide["other cells"] += sum(too_wide(c.source) for c in module.cells if c.code and not c.exported)
        per[module.file.relative_to(ROOT / "nbs").as_posix()] = {
            "exported_lines": sum(runs),
            "median_in_a_row": statistics.median(runs),
            "most_in_a_row": max(runs),
            "longest_function": max(mine.values(), default=0),
            "longest_class": max(kinds.values(), default=0),
            "lines_over_120": too_wide(code),
        }
    wide["scripts, tests, bench"] = sum(
        too_wide(f.read_text(encoding="utf-8")) for d in ("scripts", "tests", "bench") for f in (ROOT / d).rglob("*.py")
    )
    return {
        "notebooks": per,
        "functions": functions,
        "classes": classes,
        "two_meanings": two_meanings(modules),
        "undocumented": gaps,
        "without_sections": bare,
        "lines_over_120": wide,
    }


def totals(found: dict) -> dict[str, float]:
    "Return the figures of the house in total, a name to a number."
    most = [n["most_in_a_row"] for n in found["notebooks"].values()]
    functions, classes = list(found["functions"].values()), list(found["classes"].values())
    return {
        "notebooks": len(most),
        "exported_lines": sum(n["exported_lines"] for n in found["notebooks"].values()),
        "median_of_most_in_a_row": statistics.median(most),
        "most_in_a_row": max(most),
        "notebooks_over_40": sum(n > AIM for n in most),
        "notebooks_over_80": sum(n > LIMIT for n in most),
        "functions": len(functions),
        "median_function": statistics.median(functions),
        "longest_function": max(functions),
        "functions_over_40": sum(n > 40 for n in functions),
        "classes": len(classes),
        "median_class": statistics.median(classes),
        "longest_class": max(classes),
        "names_with_two_meanings": len(found["two_meanings"]),
        "names_with_undocumented_parameters": sum(map(len, found["undocumented"].values())),
        "names_without_sections": sum(map(len, found["without_sections"].values())),
        **{f"lines_over_120_{re.sub('[^a-z]+', '_', k)}": n for k, n in found["lines_over_120"].items()},
    }


def show(found: dict, everything: bool, console: Console) -> None:
    "Print the notebooks (those past the aim, or all), the longest functions and the totals."
    table = Table(
        "notebook",
        "exported",
        "median in a row",
        "most in a row",
        "function",
        "class",
        "> 120",
        title=f"Exported lines in a row without a demonstration (aim {AIM}, limit {LIMIT})",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, n in sorted(found["notebooks"].items(), key=lambda item: -item[1]["most_in_a_row"]):
        if everything or n["most_in_a_row"] > AIM:
            style = "red" if n["most_in_a_row"] > LIMIT else "yellow" if n["most_in_a_row"] > AIM else ""
            table.add_row(
                name,
                *(
                    f"{n[k]:g}"
                    for k in (
                        "exported_lines",
                        "median_in_a_row",
                        "most_in_a_row",
                        "longest_function",
                        "longest_class",
                        "lines_over_120",
                    )
                ),
                style=style,
            )
    console.print(table)
    for kind in ("functions", "classes"):
        longest = sorted(found[kind].items(), key=lambda item: -item[1])[:10]
        console.print(f"longest {kind}: " + ", ".join(f"{name} {n}" for name, n in longest), highlight=False)
    for title, listed in (
        ("two meanings", found["two_meanings"]),
        ("parameters without a comment", found["undocumented"]),
        ("no sections", found["without_sections"]),
    ):
        console.print(
            f"\n[bold]{title}[/bold]: {sum(map(len, listed.values())) if title != 'two meanings' else len(listed)}"
            + ("" if everything or not listed else "   (--all lists them)")
        )
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
    lean = {
        "totals": totals(figures),
        **{k: figures[k] for k in ("notebooks", "two_meanings", "undocumented", "without_sections")},
    }
    RESULTS.write_text(json.dumps(stored | {key: lean}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="only print: the exit code is 0")
    parser.add_argument("--all", action="store_true", help="list every notebook, and the names that are counted")
    parser.add_argument("--save", choices=["before", "after"], help="store the figures in bench/results/house.json")
    parser.add_argument("--gaps", action="store_true", help="write tests/architecture/known_gaps.json anew and stop")
    chosen = parser.parse_args()
    if chosen.gaps:
        GAPS.write_text(json.dumps(gaps(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    found = measure()
    show(found, chosen.all, Console(width=None if sys.stdout.isatty() else 150))
    if chosen.save:
        save(chosen.save, found)
    over = [f"{name}: {n['most_in_a_row']}" for name, n in found["notebooks"].items() if n["most_in_a_row"] > LIMIT]
    if over and not chosen.report:
        print(f"\nMore than {LIMIT} exported lines in a row without a demonstration:", *over, sep="\n  ")
        print("Cut the code where an idea ends and show its result in the next cell.")
    wide = found["lines_over_120"]["exported"] > WIDE
    if wide and not chosen.report:
        print(f"\nMore than {WIDE} exported lines of over {WIDTH} characters; column '> 120' of --all says where.")
    return int((bool(over) or wide) and not chosen.report)


if __name__ == "__main__":
    sys.exit(main())
