"""Say of each public name, in the sections of numpydoc, what its notebook says of it.

- Parameters: the comment behind each parameter of a function, or behind each field of a record.
- Returns: the comment behind the annotation of the result, or what the first line says after "Return".
- Raises: what the docstring says of it ("raise DataError on ..."), or the messages of the `raise` statements that a
  call reaches in the function and in the functions of its module that it calls.
- References: the citations of the docstring, of the decorators and of the prose directly above the cell.
- Examples: the first later cell of the notebook that calls it, cut to the lines that matter, with its stored output
  when that is short (scripts/notebook_examples.py).
"""

import ast
import re
import textwrap
from dataclasses import dataclass, replace

from notebook_code import (
    FUNCTION,
    Module,
    Slot,
    constructor,
    decorated,
    filled,
    is_enum,
    is_protocol,
    methods,
    parameters,
    result,
    text_of,
)
from notebook_examples import Example, example, example_elsewhere, example_of_caller, example_of_class, loads

WIDTH = 100  # characters of a line in a section
HEADER = re.compile(r"^[ ]*(?:Parameters|Attributes|Returns|Yields|Raises|References|Examples)\n[ ]*-{3,}[ ]*$", re.M)


# What is raised

ERROR = r"\w+(?:Error|Interrupt|Exit|Warning|Iteration)"
PROSE = re.compile(rf"[Rr]aises? ((?:an? )?{ERROR}(?:(?:,| or| and) \w+Error)*) ((?:[^;.]|\.(?=\w))+)")
OURS = set(
    "QuantlabError PanelError DataError ConfigError LeakError ReportError RunError LedgerError StateError "
    "ComputeError".split()
)


def spoken(node: ast.FunctionDef | ast.ClassDef) -> dict[str, list[str]]:
    "Return what a docstring says of errors: the error to its conditions."
    text = " ".join(body_of(ast.get_docstring(node) or "").split())
    found: dict[str, list[str]] = {}
    for names, when in PROSE.findall(text):
        for name in re.findall(ERROR, names):
            found.setdefault(name, []).append(when.strip())
    return found


def message(call: ast.expr) -> str:
    "Return the text of an error as it is written, with braces for what is filled in."
    if not (isinstance(call, ast.Call) and call.args):
        return ""

    def written(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(map(written, node.values))
        if isinstance(node, ast.BinOp):
            return written(node.left) + written(node.right)
        value = node.value if isinstance(node, ast.FormattedValue) else node
        return (
            f"{{{value.id}}}"
            if isinstance(value, ast.Name)
            else f"{{{value.attr}}}"
            if isinstance(value, ast.Attribute)
            else "{...}"
        )

    text = " ".join(written(call.args[0]).split())
    if len(text) > 160:
        text = text[:160].rsplit(" ", 1)[0] + " ..."
    return f'"{text}"' if re.search(r"[a-z]{3}", re.sub(r"\{[^}]*\}", "", text)) else ""


def caught(handlers: list[ast.ExceptHandler]) -> set[str]:
    "Return the names of what is caught and not raised again."
    return {
        n.id
        for h in handlers
        if not any(isinstance(r, ast.Raise) for r in ast.walk(h))
        for n in ast.walk(h.type or ast.Name("Exception"))
        if isinstance(n, ast.Name)
    }


def reached(node: ast.AST, kept: frozenset = frozenset()) -> list[tuple[ast.AST, frozenset]]:
    "Return the raise statements and calls below a node, in order, each with what is caught around it."
    if isinstance(node, ast.Try):
        inner = kept | caught(node.handlers)
        return [x for part in node.body for x in reached(part, inner)] + [
            x for part in (*node.handlers, *node.orelse, *node.finalbody) for x in reached(part, kept)
        ]
    mine = [(node, kept)] if isinstance(node, (ast.Raise, ast.Call)) else []
    return mine + [x for child in ast.iter_child_nodes(node) for x in reached(child, kept)]


@dataclass
class Reach:
    "Walk what a call reaches: the function, what it calls of its module, and what else it calls says of itself."

    module: Module
    modules: dict[str, Module]
    cls: ast.ClassDef | None  # of the method that is called
    errors: dict[str, list[str]]  # error to its conditions, in the order in which they are met
    told: frozenset  # errors of which the function's own docstring speaks: it says enough

    def add(self, error: str, text: str, caught: frozenset) -> None:
        hidden = {error, "Exception", "BaseException", *({"QuantlabError", "ValueError"} if error in OURS else ())}
        if error not in self.told and not hidden & caught and text not in self.errors.setdefault(error, []) and text:
            self.errors[error].append(text)

    def visit(self, function: ast.FunctionDef, around: frozenset, seen: set[int]) -> None:
        "Add the errors of a function and of what it calls."
        said, first = spoken(function), not seen
        seen.add(id(function))
        for part, caught in (found for statement in function.body for found in reached(statement, around)):
            if isinstance(part, ast.Call):
                self.follow(part.func, caught, seen)
            elif part.exc is not None:
                error = text_of(part.exc.func if isinstance(part.exc, ast.Call) else part.exc).split(".")[-1]
                if error[:1].isupper() and re.fullmatch(ERROR, error) and (first or error in OURS or message(part.exc)):
                    for text in [message(part.exc)] if message(part.exc) else said.get(error, [""]):
                        self.add(error, text, caught)

    def follow(self, called: ast.expr, caught: frozenset, seen: set[int]) -> None:
        "Visit a function of this module or a method of this class; of another module's, take what it says."
        target = None
        if isinstance(called, ast.Name):
            target = self.module.functions.get(called.id)
            there, name = self.module.imports.get(called.id, ("", ""))
            other = self.modules.get(there.removeprefix("quantlab."))
            if target is None and other and name in other.functions:
                for error, texts in spoken(other.functions[name]).items():
                    for text in texts:
                        self.add(error, f"{text} (see {name})", caught)
        elif isinstance(called, ast.Attribute) and ast.unparse(called.value) == "self" and self.cls:
            target = next((m for m in self.cls.body if isinstance(m, FUNCTION) and m.name == called.attr), None)
        if target is not None and id(target) not in seen:
            self.visit(target, caught, seen)


def raised(
    module: Module, node: ast.FunctionDef, modules: dict[str, Module], cls: ast.ClassDef | None = None
) -> dict[str, list[str]]:
    "Return the errors that a call reaches, each with its conditions: what the docstring says first, else messages."
    own = spoken(node)
    reach = Reach(module, modules, cls, dict(own), frozenset(own))
    reach.visit(node, frozenset(), set())
    return {error: texts[:4] for error, texts in reach.errors.items()}


# What is cited

AUTHOR = r"(?:(?:[Vv]an|[Dd]e|[Dd]er|[Vv]on|[Ll][óo]pez de|Garc[íi]a de) )*[A-ZÀ-Þ][\w'’-]*[a-zß-ÿ][\w'’-]*"
AUTHORS = rf"{AUTHOR}(?:, {AUTHOR})*(?:,? (?:and|&) {AUTHOR})?(?: et al\.?)?"
YEAR = r"(?:18|19|20)\d\d[a-z]?"
BEHIND = re.compile(rf"({AUTHORS}) \(({YEAR})((?:, [^()]*)?)\)((?:, \*[^*]+\*(?:, chapters? [\d-]+)?)?)")  # Lo (2002)
INSIDE = re.compile(rf"(?:(?<=[(;:,] )|(?<=\())({AUTHORS}),? ({YEAR})()()(?=[,;).])")  # (Lo 2002; Mertens 2002)
NO_AUTHOR = set(
    "January February March April May June July August September October November December In On Since From Until "
    "Before After By To Of And The Between Through Covid Python Table Figure Section Chapter Quarter Sharpe Basel "
    "Early Late Spring Summer Autumn Winter Regulation Around During".split()
)


def citations(text: str) -> dict[tuple[str, str], str]:
    "Return the works that a text cites: (authors, year) to the citation as it is written."
    found: dict[tuple[str, str], str] = {}
    text = " ".join(text.split())
    for match in sorted([*BEHIND.finditer(text), *INSIDE.finditer(text)], key=lambda m: m.start()):
        authors, year, rest, work = [g or "" for g in match.groups()]
        authors = re.sub(r"^(?:Read|See|After|By|From|In|And|Following|Like|With|Both) ", "", authors).strip()
        if not authors or authors.split()[0].rstrip(",") in NO_AUTHOR or authors.split()[-1] in NO_AUTHOR:
            continue
        written = f"{authors} ({year}{rest}){work}"
        if len(written) > len(found.get((authors, year), "")):
            found[authors, year] = written
    return found


def references(module: Module, name: str, node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    "Return what is cited for a name: in its docstring, its decorators, and in the prose directly above its cell."
    at = next(i for i, c in enumerate(module.cells) if c.exported and name in c.names)
    used, more = set(), loads(node)
    while more - used:
        used |= more
        more = set().union(*(loads(f) for n, f in module.functions.items() if n in used and n.startswith("_")))
    part = lambda c: c.exported and all(n.startswith("_") and n in used for n in c.names)  # a kernel or constant of it
    beside, i = [], at - 1
    while i >= 0 and (not module.cells[i].code or part(module.cells[i])):
        beside.insert(0, module.cells[i].source if not module.cells[i].code else "")
        i -= 1
    mine = "\n".join([ast.get_docstring(node) or "", *map(ast.unparse, node.decorator_list), *beside])
    everywhere = citations("\n".join(c.source for c in module.cells if not c.code))
    return [max(written, everywhere.get(key, ""), key=len) for key, written in citations(mine).items()]


# As text


def body_of(docstring: str) -> str:
    "Return a docstring without the sections that were written to it."
    found = HEADER.search(docstring)
    return (docstring[: found.start()] if found else docstring).rstrip()


def sentence(text: str) -> str:
    "Begin a fragment with a capital, unless its first word is code or a list of columns, and end it with a stop."
    text = re.sub(r"^(say|nam|tell)ing ", lambda m: f"Its message {m[1]}{'e' * (m[1] == 'nam')}s ", text.strip())
    if re.match(r"[a-z]+[ ;.)]|[a-z]{2,}$|[a-z]+-[a-z]", text) and not re.match(r"\w+ \(", text):
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?:" else text + "."


def indented(text: str, by: int = 4) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * by, subsequent_indent=" " * by, break_long_words=False, break_on_hyphens=False
    )


def listed(slot: Slot) -> list[str]:
    "Write one parameter: name, type and default in a line, what it means below."
    default = None if slot.default is None else f"default {slot.default}" if len(slot.default) <= 40 else "optional"
    kind = ", ".join(part for part in (bounded(slot.annotation), default) if part)
    return [f"{slot.name} : {kind}" if kind and slot.name else slot.name or kind, *indented(sentence(slot.text))]


def session(found: Example) -> list[str]:
    "Write an example as a session: prompts before what is typed, the output below."
    lines = [f"{'>>>' if k == 0 else '...'} {line}".rstrip() for part in found.lines for k, line in enumerate(part)]
    from_root = [line.replace('"../../data/', '"data/') for line in lines]  # a notebook runs two folders below
    return from_root + found.output


def section(title: str, lines: list[str]) -> list[str]:
    return ["", title, "-" * len(title), *lines] if lines else []


def bounded(annotation: str) -> str:
    "Write Annotated[int, Field(ge=1, le=250)] as a reader would: int, 1 to 250."
    found = re.fullmatch(r"Annotated\[(\w+), .*?Field\((.*)\)\]", annotation)
    if not found:
        return re.sub(r"^Annotated\[(.+?), .*\]$", r"\1", annotation)
    low, high = (re.search(rf"{word}=([-\d.e*]+)", found[2]) for word in ("ge", "le"))
    return f"{found[1]}, {low[1]} to {high[1]}" if low and high else found[1]


def meaning(kind: str, module: Module, modules: dict[str, Module]) -> str:
    "Return what a class of ours holds, by its docstring, for a result that no comment describes."
    home = module
    if kind not in module.classes and module.imports.get(kind, ("",))[0].startswith("quantlab."):
        home = modules.get(module.imports[kind][0].removeprefix("quantlab."), module)
    first = (ast.get_docstring(home.classes[kind]) or "").split("\n")[0] if kind in home.classes else ""
    return re.sub(r"^(?:Hold|Record|Describe|Keep|Carry|Name|State|Say) ", "", first)


def returned(function: ast.FunctionDef, module: Module, modules: dict[str, Module]) -> Slot | None:
    "Return what a function gives back, named `yield` when it is a generator."
    gives = result(function, module.said)
    if gives is None:
        return None
    generator = any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(function))
    text = gives.text or meaning(gives.annotation, module, modules)
    return replace(gives, name="yield" if generator else "", text=text)


def lineage(module: Module, cls: ast.ClassDef) -> list[ast.ClassDef]:
    "Return a class and the private classes of its module that it is built on: their public methods are its own."
    bases = [module.classes.get(b.id) for b in cls.bases if isinstance(b, ast.Name) and b.id.startswith("_")]
    return [cls, *(c for base in bases if base for c in lineage(module, base))]


def sections(module: Module, name: str, modules: dict[str, Module]) -> dict[str, str]:
    "Return the sections of a public function or class, and of its public methods: name or Class.method to its text."
    node = module.defined(name)
    is_class = isinstance(node, ast.ClassDef)
    slots = filled(module.slots(name), name, module, modules)
    head = "Attributes" if is_class and (is_enum(node) or is_protocol(node)) else "Parameters"
    runs = constructor(node) if is_class else node
    post = (
        next((m for m in node.body if isinstance(m, FUNCTION) and m.name == "__post_init__"), None)
        if is_class
        else None
    )
    errors = raised(module, runs or post, modules, node if is_class else None) if runs or post else {}
    errors = (spoken(node) | errors) if is_class else errors
    shown = (
        (example_of_class(module, name) if is_class else example(module, name))
        or example_elsewhere(name, module, modules)
        or example_of_caller(name, module)
    )
    gives = None if is_class else returned(node, module, modules)
    found, told = {name: written(head, slots, gives, errors, references(module, name, node), shown)}, [shown]
    for owner, method in [(cls, m) for cls in lineage(module, node) for m in methods(cls)] if is_class else ():
        full = f"{owner.name}.{method.name}"
        slots = filled(parameters(method, module.said, module.code), full, module, modules)
        errors = raised(module, method, modules, owner)
        shown = None if decorated(method, "setter") else example(module, method.name, method=True)
        shown = None if shown in told else shown  # the class or another method shows it already
        told.append(shown)
        found[full] = written("Parameters", slots, returned(method, module, modules), errors, [], shown)
    return found


def written(
    head: str,  # title of the first section
    slots: list[Slot],
    gives: Slot | None,
    errors: dict[str, list[str]],
    cited: list[str],
    shown: Example | None,
) -> str:
    "Write the sections of one function, method or class."
    lines = section(head, [line for slot in slots for line in listed(slot)])
    if gives:
        lines += section("Yields" if gives.name == "yield" else "Returns", listed(replace(gives, name="")))
    lines += section("Raises", [line for error, texts in errors.items() for line in [error, *conditions(texts)]])
    lines += section("References", [line for number, work in enumerate(cited, 1) for line in numbered(number, work)])
    lines += section("Examples", session(shown) if shown else [])
    return "\n".join(lines)


def conditions(texts: list[str]) -> list[str]:
    return [line for text in texts for line in indented(text if text.startswith('"') else sentence(text))]


def numbered(number: int, work: str) -> list[str]:
    return textwrap.wrap(f".. [{number}] {sentence(work)}", WIDTH, subsequent_indent=" " * 7)


def write(code: str, texts: dict[str, str]) -> str:
    "Return a module's code with the sections in the docstrings of the names that are given."
    lines = code.splitlines()
    for name, node in sorted(definitions(code).items(), key=lambda item: -item[1].body[0].lineno):
        if (
            texts.get(name)
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            place = node.body[0]
            lines[place.lineno - 1 : place.end_lineno] = docstring(
                body_of(ast.get_docstring(node)), texts[name], place.col_offset
            )
    return "\n".join(lines) + "\n"


def lacks(doc: str, slots: list[Slot], gives: bool, shown: bool) -> list[str]:
    "Return what a docstring does not say: parameters without a meaning, Returns, Examples."
    parts = HEADER.split(doc + "\n")
    titles = [h.split("\n")[0].strip() for h in HEADER.findall(doc)]
    said = dict(zip(titles, parts[1:], strict=True))
    text = textwrap.dedent(said.get("Parameters", said.get("Attributes", "")).strip("\n"))
    meant = {m[1] for m in re.finditer(r"^(\S+)(?: : .*)?\n {4}\S", text, re.M)}
    wanted = [
        title
        for title, needed in (("Returns", gives), ("Examples", shown))
        if needed and not said.keys() & {title, title.replace("Return", "Yield")}
    ]
    return [s.name for s in slots if s.name not in meant] + wanted


def incomplete(module: Module, code: str) -> dict[str, list[str]]:
    "Return what the public names of an exported module lack in their docstrings; a method needs no example."
    docs, found = docstrings(code), {}
    for name in module.public:
        cls = module.classes.get(name)
        gives = cls is None and result(module.functions[name], module.said) is not None
        found[name] = lacks(docs.get(name, ""), module.slots(name), gives, True)
        for method in methods(cls) if cls else ():
            slots = parameters(method, module.said, module.code)
            gives = result(method, module.said) is not None
            found[f"{name}.{method.name}"] = lacks(docs.get(f"{name}.{method.name}", ""), slots, gives, False)
    return {name: what for name, what in found.items() if what}


def definitions(code: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    "Return the functions, classes and public methods of a module by name or Class.method."
    nodes = {}
    for node in ast.parse(code).body:
        nodes |= {node.name: node} if isinstance(node, (*FUNCTION, ast.ClassDef)) else {}
        nodes |= {f"{node.name}.{m.name}": m for m in methods(node)} if isinstance(node, ast.ClassDef) else {}
    return nodes


def docstrings(code: str) -> dict[str, str]:
    "Return the docstrings of a module's functions, classes and public methods."
    return {name: ast.get_docstring(node) or "" for name, node in definitions(code).items()}


def docstring(said: str, sections: str, indent: int) -> list[str]:
    "Write a docstring with its sections as source lines, none of them longer than 120 characters."
    first, _, rest = said.partition("\n")
    opening = textwrap.wrap(first, 116 - indent, break_long_words=False, break_on_hyphens=False)
    text = "\n".join([*opening, *([rest] if rest else []), sections])
    text = text.replace("\\", "\\\\").replace('"""', r"\"\"\"")
    return [(" " * indent + line).rstrip() for line in f'"""{text}\n"""'.splitlines()]
