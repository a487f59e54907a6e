"""Cut an example of a public name out of its notebook: the first later cell that calls it, and what that cell needs."""

import ast
import builtins
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from notebook_code import FUNCTION, Cell, Module, text_of

LINES, SHOWN, LOOKED = 16, 12, 10  # lines of an example and of its output, cells looked at for one
LONG = 36  # lines of an example that could not be pasted were it shorter
WIDTH = 108  # characters in a line of an example


def loads(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def binds(node: ast.stmt) -> tuple[set[str], set[str]]:
    "Return the names that a statement makes, and those that it changes."
    if isinstance(node, (*FUNCTION, ast.ClassDef)):
        return {node.name}, set()
    made = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    places = [t for t in getattr(node, "targets", [getattr(node, "target", None)]) if t is not None]
    changed = {
        n.id
        for t in places
        if isinstance(t, (ast.Subscript, ast.Attribute))
        for n in ast.walk(t)
        if isinstance(n, ast.Name)
    }
    return (
        (made - {node.target.id}, changed | {node.target.id})
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        else (made, changed)
    )


def calls(node: ast.stmt, name: str, method: bool) -> list[ast.Call]:
    wanted = lambda f: (
        (isinstance(f, ast.Attribute) and f.attr == name) if method else (isinstance(f, ast.Name) and f.id == name)
    )
    return [n for n in ast.walk(node) if isinstance(n, ast.Call) and wanted(n.func)]


def mentions(node: ast.stmt, name: str, method: bool) -> bool:
    "Say whether a statement uses a name without calling it: a property, a class given as an argument."
    return any(
        n.attr == name
        if method and isinstance(n, ast.Attribute)
        else not method and isinstance(n, ast.Name) and n.id == name
        for n in ast.walk(node)
    )


@dataclass
class Example:
    "Hold the lines of an example, its output, and how far it is from the ideal one."

    lines: list[list[str]]  # one list a statement
    output: list[str]
    cost: float


def output_of(cell: Cell) -> list[str]:
    "Return the stored text of a cell's last line; none when it is long, wide, or a picture."
    for output in cell.outputs:
        if output["output_type"] == "execute_result":
            text = output["data"].get("text/plain", "")
            lines = [line.rstrip() for line in (text if isinstance(text, str) else "".join(text)).splitlines()]
            fits = (
                0 < len(lines) <= SHOWN
                and max(map(len, lines)) <= WIDTH
                and not re.search(r"^<[\w.]+[ >]| at 0x", "\n".join(lines), re.M)
            )
            return lines if fits else []
    return []


def cut(cells: list[Cell], at: int, first: int, acting: bool) -> tuple[list[tuple[int, int]], bool, int]:
    "Return the statements (cell, number) that one needs, whether the last of its cell is in, how many acting are not."
    cell = cells[at]
    chosen = {(at, first)}
    last = len(cell.body) - 1
    made = set().union(*binds(cell.body[first]))
    if isinstance(cell.body[last], ast.Expr) and first < last and loads(cell.body[last]) & made:
        chosen.add((at, last))
        wanted = loads(cell.body[last]) | loads(cell.body[first])
        for j in range(last - 1, first, -1):  # what lies between and makes, changes or touches what is shown
            node = cell.body[j]
            touched = loads(node) if isinstance(node, ast.Expr) else set().union(*binds(node))
            if isinstance(node, (ast.For, ast.While, ast.With)):  # a loop may change by a call what it does not bind
                touched |= loads(node) & {n for s in cell.body for n in binds(s)[0]}
            if touched & wanted:
                chosen.add((at, j))
                wanted |= loads(cell.body[j])
    shown, left = first == last or (at, last) in chosen, 0
    needed = set().union(*(loads(cell.body[j]) for _, j in chosen)) | (binds(cell.body[first])[1])
    before = [
        (i, j)
        for i in range(at, -1, -1)
        if cells[i].code and not cells[i].exported
        for j in range(len(cells[i].body) - 1, -1, -1)
        if (i, j) < (at, last)
    ]
    for i, j in before:
        node = cells[i].body[j]
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (i, j) in chosen:
            if (i, j) in chosen:
                needed = (needed - binds(node)[0]) | loads(node) | binds(node)[1]
            continue
        if (i, j) > (at, first):
            continue
        made, changed = binds(node)
        act = bool(loads(node) & needed) and acts(node, j == len(cells[i].body) - 1)
        if (made | changed) & needed or (act and acting):
            chosen.add((i, j))
            needed = (needed - made) | loads(node) | changed
        elif act:
            left += 1
    return sorted(chosen), shown, left


def acts(node: ast.stmt, is_last: bool) -> bool:
    "Say whether a statement is there for what it does: a loop, a call that is not the cell's display."
    call = isinstance(node, ast.Expr) and not is_last and isinstance(node.value, (ast.Call, ast.Tuple))
    return (
        call
        or isinstance(node, (ast.For, ast.While, ast.With, ast.Delete))
        and "style()" not in ast.unparse(node).split("\n")[0]
    )


def build(module: Module, cells: list[Cell], at: int, first: int, own: set[str], far: int) -> Example:
    "Cut one example out of the cells: with what it needs if that is short, else only its own cell's lines."
    size = lambda chosen: sum(len(cells[i].text(cells[i].body[j])) for i, j in chosen)
    everything, with_last, left = cut(cells, at, first, acting=True)
    if size(everything) > LONG:
        everything, with_last, left = cut(cells, at, first, acting=False)
    local = [(i, j) for i, j in everything if i == at]
    chosen = everything if size(everything) <= LONG else local
    if size(chosen) > LONG or (chosen != everything and size(chosen) > LINES):
        chosen = [(at, first)]
        with_last = first == len(cells[at].body) - 1
    used = set().union(*(loads(cells[i].body[j]) for i, j in chosen)) if chosen else set()
    lines = imports_for(module, used, own) + narrow([cells[i].text(cells[i].body[j]) for i, j in chosen])
    output = output_of(cells[at]) if with_last and not left else []  # what is left out may have changed what is shown
    private = sum(name.startswith("_") and len(name) > 1 for name in used) + 4 * ("display" in used)  # IPython's alone
    drawn = any(isinstance(cells[i].body[j], ast.With) for i, j in chosen)
    cost = (
        size(chosen) + 6 * private + 4 * drawn + 40 * (chosen != everything) + 6 * bool(left) + far - 4 * bool(output)
    )
    return Example(lines, output, cost)


def narrow(statements: list[list[str]]) -> list[list[str]]:
    "Set an example anew when one of its lines is too wide for a docstring."
    if max((len(line) for part in statements for line in part), default=0) <= WIDTH:
        return statements
    code = "\n".join(line for part in statements for line in part)
    ruff = [
        str(Path(sys.executable).with_name("ruff")),
        "format",
        "--isolated",
        "--line-length",
        str(WIDTH),
        "--stdin-filename",
        "example.py",
        "-",
    ]
    done = subprocess.run(ruff, input=code, capture_output=True, text=True, check=True).stdout
    lines, found = done.splitlines(), []
    for node in ast.parse(done).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        found.append(lines[first - 1 : node.end_lineno])
    return found


def imports_for(module: Module, used: set[str], own: set[str]) -> list[list[str]]:
    "Return the import lines of what an example uses, numpy and pandas taken for granted."
    where: dict[str, set[str]] = {}
    plain = []
    for name in sorted(used - set(dir(builtins)) | (used & own)):
        if name in own:
            where.setdefault(f"quantlab.{module.name}", set()).add(name)
        elif name in module.imports:
            source, there = module.imports[name]
            if there:
                where.setdefault(source, set()).add(there if there == name else f"{there} as {name}")
            else:
                plain.append(f"import {source}" + (f" as {name}" if name != source.split(".")[0] else ""))
    plain += ["from IPython.display import display"] if "display" in used - own else []
    found = plain + [f"from {source} import {', '.join(sorted(names))}" for source, names in sorted(where.items())]
    return [[line] if len(line) <= WIDTH else wrapped_import(line) for line in found]


def wrapped_import(line: str) -> list[str]:
    head, _, names = line.partition(" import ")
    return [
        f"{head} import (",
        *textwrap.wrap(names + ",", WIDTH, initial_indent="    ", subsequent_indent="    "),
        ")",
    ]


def example(module: Module, name: str, method: bool = False) -> Example | None:
    "Return the example of a name: the first later cell that calls it, unless a nearby one says it shorter."
    cells = module.cells
    start = next((i for i, c in enumerate(cells) if c.exported and (method or name in c.names)), 0)
    own = {*module.functions, *module.classes, *module.assigned}
    order = [i for i in (*range(start, len(cells)), *range(start)) if cells[i].code and not cells[i].exported]
    for hit in (lambda s: bool(calls(s, name, method)), lambda s: mentions(s, name, method)):
        found = []
        for i in order:
            where = [
                j for j, s in enumerate(cells[i].body) if not isinstance(s, (ast.Import, ast.ImportFrom)) and hit(s)
            ]
            direct = [j for j in where if not isinstance(cells[i].body[j], (*FUNCTION, ast.ClassDef))]
            if where:
                j = (direct or where)[0]
                error = "show_error(" in ast.unparse(cells[i].body[j]) or "raises(" in ast.unparse(cells[i].body[j])
                found.append(build(module, cells, i, j, own, 8 * error + 12 * (not direct)))
            if found and (found[-1].cost <= LINES // 4 or len(found) == LOOKED):
                break
        if found:
            return min(found, key=lambda e: e.cost)
    return None


def example_of_class(module: Module, name: str) -> Example | None:
    "Return an example of a class: its own, else that of a function which returns it, else a cell that shows its error."
    if found := example(module, name):
        return found
    for function in module.functions.values():
        if (
            not function.name.startswith("_")
            and re.search(rf"\b{name}\b", text_of(function.returns))
            and (found := example(module, function.name))
        ):
            return found
    for i, cell in enumerate(module.cells):
        if cell.code and not cell.exported and cell.body and any(f"{name}:" in line for line in output_of(cell)):
            own = {*module.functions, *module.classes, *module.assigned}
            return build(module, module.cells, i, len(cell.body) - 1, own, 0)
    return None


def example_of_caller(name: str, module: Module) -> Example | None:
    "Return the example of the nearest public function or class of the module that uses a name."
    parts = {**module.functions, **module.classes}
    wanted, seen = {name}, {name}
    while wanted:
        users = [n for n, node in parts.items() if n not in seen and loads(node) & wanted]
        for user in users:
            if not user.startswith("_") and (found := example(module, user)):
                return found
        wanted = set(users)
        seen |= wanted
    return None


def example_elsewhere(name: str, home: Module, modules: dict[str, Module]) -> Example | None:
    "Return an example from another notebook that imports a name: a cell, or one of a function that calls it."
    users = [m for m in modules.values() if m is not home and m.imports.get(name) == (f"quantlab.{home.name}", name)]
    ways = [lambda m: example(m, name), lambda m: example_of_caller(name, m)]
    return next((found for way in ways for module in users if (found := way(module))), None)
