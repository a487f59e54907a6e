"""Read from a notebook what its exported code says of itself: parameters with their comments, records, results."""

import ast
import io
import json
import re
import tokenize
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r"^#\|\s*export", re.M)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
HOUSE = {  # parameters that mean the same in every room; a comment of one's own goes first
    "X": "one row per observation, one column per feature, known at the close of its date",
    "y": "outcomes, on the rows of X",
    "sample_weight": "weight of each row of X; None = all equal",
    "groups": "not used; in the signature for scikit-learn",
    "seed": "of the generator that draws; the same seed gives the same numbers",
    "draws": "random draws; more make the simulated figures steadier",
    "periods_per_year": "252 for trading days, 52 for weeks, 12 for months",
    "interval": 'length of the bars: "1d", "1w", "1h", "5min" ...',
    "dataset": "name of the data in the store",
    "symbol": "name of the instrument",
    "symbols": "names of the instruments",
    "start": "first date",
    "end": "last date",
    "title": "headline of the picture",
    "costs": "charged on every fill",
    "rules": "of the market and the account: lots, limits, what may be held",
    "result": "account of a backtest",
    "study": "what is being searched: the unit over which trials are counted",
    "ledger": "where trials, fits and runs are recorded",
}


def parse(source: str) -> ast.Module:
    "Parse a cell, without its magics and shell lines."
    return ast.parse("\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()))


# Comments


def comments(code: str) -> dict[int, tuple[str, bool]]:
    "Return the comments by line, each with whether it has the line for itself."
    found, lines = {}, code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#|", "# %%")):
            alone = not lines[token.start[0] - 1][: token.start[1]].strip()
            found[token.start[0]] = (token.string.lstrip("# ").strip(), alone)
    return found


def told(first: int, last: int, said: dict[int, tuple[str, bool]]) -> str:
    "Return the comment behind a parameter or field, after the lines of comment above it."
    above, line = [], first - 1
    while line in said and said[line][1]:
        above.insert(0, said[line][0])
        line -= 1
    behind = [said[last][0]] if last in said and not said[last][1] else []
    return " ".join(above + behind)


@dataclass(frozen=True)
class Slot:
    "Hold one parameter or field: how it is written and what its comment says."

    name: str
    annotation: str = ""
    default: str | None = None
    text: str = ""


def text_of(node: ast.expr | None) -> str:
    "Write an annotation or a default as source, without the quotes of a forward reference."
    return (
        ""
        if node is None
        else node.value
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        else ast.unparse(node)
    )


def parameters(function: ast.FunctionDef, said: dict[int, tuple[str, bool]], code: str) -> list[Slot]:
    "Return the parameters of a function, without self; a comment behind several of them documents none."
    a = function.args
    plain = [*a.posonlyargs, *a.args]
    given = list(zip(plain, [None] * (len(plain) - len(a.defaults)) + list(a.defaults), [""] * len(plain), strict=True))
    given += [(p, None, "*") for p in [a.vararg] if p] + [
        (p, d, "") for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)
    ]
    given += [(p, None, "**") for p in [a.kwarg] if p]
    given = [(p, d, stars) for p, d, stars in given if p.arg not in ("self", "cls")]
    last = [max(p.end_lineno, d.end_lineno if d else 0) for p, d, _ in given]
    alone = lambda p, line: p.lineno > function.lineno and last.count(line) == 1
    return [
        Slot(
            stars + p.arg,
            text_of(p.annotation),
            None if d is None else as_written(code, d),
            told(p.lineno, line, said) if alone(p, line) else "",
        )
        for (p, d, stars), line in zip(given, last, strict=True)
    ]


def as_written(code: str, node: ast.expr) -> str:
    "Return an expression as the source has it (1_000_000.0 stays so), in one line."
    return " ".join((ast.get_source_segment(code, node) or ast.unparse(node)).split())


def result(function: ast.FunctionDef, said: dict[int, tuple[str, bool]]) -> Slot | None:
    "Return what a function gives back: None when nothing or when its annotation does not say."
    kind = text_of(function.returns)
    if kind in ("", "None", "NoReturn", "Never"):
        return None
    text = said.get(function.returns.end_lineno, ("", False))[0]
    first = (ast.get_docstring(function) or "").split("\n\n")[0].replace("\n", " ")
    returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    if not text and returned and all(isinstance(r, ast.Name) and r.id == "self" for r in returned):
        text = "the same object"
    if not text and (found := re.match(r"(?:Return|Yield|Give back|Count) (.+?)(?:; |\. |\.$|$)", first)):
        text = found[1]
    return Slot("", kind, None, text)


def decorated(node: ast.ClassDef | ast.FunctionDef, word: str) -> bool:
    return any(word in ast.unparse(d) for d in node.decorator_list)


def fields(cls: ast.ClassDef, said: dict[int, tuple[str, bool]], code: str) -> list[Slot]:
    "Return the fields of a record (dataclass, NamedTuple, TypedDict, pydantic) or the members of an enumeration."
    found = []
    for node in cls.body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind, hidden = ast.unparse(node.annotation), value is not None and "init=False" in ast.unparse(value)
            if not kind.startswith("ClassVar") and not hidden and not node.target.id.startswith("_"):
                given = None if value is None else as_written(code, value)
                found.append(Slot(node.target.id, kind, given, told(node.lineno, node.end_lineno, said)))
        elif isinstance(node, ast.Assign) and is_enum(cls) and isinstance(node.targets[0], ast.Name):
            found.append(
                Slot(node.targets[0].id, "", None, told(node.lineno, node.end_lineno, said) or as_written(code, value))
            )
    return found


def is_enum(cls: ast.ClassDef) -> bool:
    return any(re.search(r"(Enum|Flag)$", ast.unparse(base)) for base in cls.bases)


def is_record(cls: ast.ClassDef) -> bool:
    return decorated(cls, "dataclass") or any(
        re.search(r"(NamedTuple|TypedDict|BaseModel|_Section)$", ast.unparse(base)) for base in cls.bases
    )


def constructor(cls: ast.ClassDef) -> ast.FunctionDef | None:
    return next((m for m in cls.body if isinstance(m, FUNCTION) and m.name == "__init__"), None)


def methods(cls: ast.ClassDef) -> list[ast.FunctionDef]:
    "Return the public methods and properties of a class."
    return [m for m in cls.body if isinstance(m, FUNCTION) and not m.name.startswith("_")]


# Notebooks


@dataclass
class Cell:
    "Hold one cell of a notebook: its text, and for code its statements."

    source: str
    code: bool
    outputs: list = field(default_factory=list)

    @cached_property
    def exported(self) -> bool:
        return self.code and bool(DIRECTIVE.search(self.source))

    @cached_property
    def body(self) -> list[ast.stmt]:
        return parse(self.source).body if self.code else []

    @cached_property
    def names(self) -> list[str]:
        "The functions and classes that the cell defines."
        return [n.name for n in self.body if isinstance(n, (*FUNCTION, ast.ClassDef))]

    def text(self, node: ast.stmt) -> list[str]:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return self.source.splitlines()[first - 1 : node.end_lineno]


def read_cells(file: Path) -> list[Cell]:
    "Return the cells of a notebook that hold something."
    joined = lambda source: source if isinstance(source, str) else "".join(source)
    raw = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [
        Cell(s, c["cell_type"] == "code", c.get("outputs", []))
        for c in raw
        if (s := joined(c["source"])).strip() and c["cell_type"] != "raw"
    ]


@dataclass
class Module:
    "Hold one module: its notebook, its cells, and the functions and classes of its exported code."

    name: str  # room.module
    file: Path  # the notebook
    cells: list[Cell]

    @cached_property
    def code(self) -> str:
        return "\n\n".join(c.source for c in self.cells if c.exported)

    @cached_property
    def said(self) -> dict[int, tuple[str, bool]]:
        return comments(self.code)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.code)

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {n.name: n for n in self.tree.body if isinstance(n, FUNCTION)}

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {n.name: n for n in self.tree.body if isinstance(n, ast.ClassDef)}

    @cached_property
    def assigned(self) -> list[str]:
        "Names of the module's constants."
        nodes = [n for n in self.tree.body if isinstance(n, (ast.Assign, ast.AnnAssign))]
        targets = [t for n in nodes for t in getattr(n, "targets", [getattr(n, "target", None)])]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        "Names that any cell imports: (module, name there); an empty name there = the module itself."
        found = {}
        for node in (n for c in self.cells for s in c.body for n in ast.walk(s)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found |= {a.asname or a.name: (node.module, a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                found |= {a.asname or a.name.split(".")[0]: (a.name, "") for a in node.names}
        return found

    @cached_property
    def public(self) -> list[str]:
        "The public functions and classes; not the commands of the shell, whose docstring is their --help."
        names = [
            n.name for n in self.tree.body if isinstance(n, (*FUNCTION, ast.ClassDef)) and not n.name.startswith("_")
        ]
        return [
            n
            for n in dict.fromkeys(names)
            if not re.search(r"\.(command|callback)\(", " ".join(map(ast.unparse, self.defined(n).decorator_list)))
        ]

    def defined(self, name: str) -> ast.FunctionDef | ast.ClassDef:
        return self.functions.get(name) or self.classes[name]

    @cached_property
    def words(self) -> dict[tuple[str, str], str]:
        "What the module's comments say of a parameter of one name and type, where they say one thing."
        found: dict[tuple[str, str], set[str]] = {}
        for cls in self.classes.values():
            parts = [
                *fields(cls, self.said, self.code),
                *(s for m in methods(cls) for s in parameters(m, self.said, self.code)),
            ]
            for slot in parts:
                found.setdefault((slot.name, slot.annotation), set()).add(slot.text)
        for function in self.functions.values():
            for slot in parameters(function, self.said, self.code):
                found.setdefault((slot.name, slot.annotation), set()).add(slot.text)
        return {key: texts.pop() for key, texts in ((k, t - {""}) for k, t in found.items()) if len(texts) == 1}

    def slots(self, name: str) -> list[Slot]:
        "Return the parameters of a function or of a class's constructor, or the fields of a record with its bases'."
        if name in self.functions:
            return parameters(self.functions[name], self.said, self.code)
        cls = self.classes[name]
        if init := constructor(cls):
            return parameters(init, self.said, self.code)
        bases = [b for base in cls.bases if (b := ast.unparse(base)) in self.classes]
        inherited = (
            {s.name: s for b in bases for s in self.slots(b)}
            if is_record(cls) or not fields(cls, self.said, self.code)
            else {}
        )
        own = fields(cls, self.said, self.code) if is_record(cls) or is_enum(cls) or is_protocol(cls) else []
        return list((inherited | {s.name: s for s in own}).values())


def filled(slots: list[Slot], name: str, module: Module, modules: dict[str, Module]) -> list[Slot]:
    "Give a parameter without a comment that of the method it overrides, the house's, or its module's for that name."
    owner, _, method = name.partition(".")
    above: dict[str, str] = {}
    for cls, home in bases(owner, module, modules) if method else ():
        above = (
            next(
                (
                    {s.name: s.text for s in parameters(m, home.said, home.code) if s.text}
                    for m in methods(cls)
                    if m.name == method
                ),
                {},
            )
            | above
        )
    house = dict.fromkeys(HOUSE, HOUSE["groups"]) if method == "get_n_splits" else HOUSE
    texts = [
        above.get(s.name) or s.text or house.get(s.name) or module.words.get((s.name, s.annotation), "") for s in slots
    ]
    return [replace(s, text=s.text or text) for s, text in zip(slots, texts, strict=True)]


def bases(name: str, module: Module, modules: dict[str, Module]) -> list[tuple[ast.ClassDef, Module]]:
    "Return the base classes of ours, and the protocols that a class's module has or imports, each with its module."
    reach = [(c, module) for n, c in module.classes.items() if n != name]
    for there, original in module.imports.values():
        home = modules.get(there.removeprefix("quantlab."))
        if home and original in home.classes:
            reach.append((home.classes[original], home))
    named = {ast.unparse(b) for b in module.classes[name].bases} if name in module.classes else set()
    return [(c, home) for c, home in reach if c.name in named or is_protocol(c)]


def is_protocol(cls: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in cls.bases)


def read_modules() -> dict[str, Module]:
    "Return the modules by name, lowest floor first."
    files = sorted((ROOT / "nbs").glob("*/[0-9][0-9][0-9]_*.ipynb"), key=lambda f: (f.name, f.parent.name))
    names = {f"{f.parent.name}.{f.stem[4:]}": f for f in files}
    return {name: Module(name, file, read_cells(file)) for name, file in names.items()}
