"The contract of a template: what is read, what is taken, what is refused."

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.core.errors import ConfigError, ReportError
from quantlab.report.template import (
    Parameter,
    check_value,
    emit,
    fill_parameters,
    parameter_model,
    parse_parameters,
    plain,
    read_cells,
    read_parameters,
)

VALUES = {
    "int": st.integers(-(10**12), 10**12),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "list": st.lists(st.integers(-1000, 1000), min_size=1),
}


def notebook(folder, *sources):
    "Write cells, each a (tag, source) pair, as a notebook."
    cells = [
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": source, "outputs": []} for tag, source in sources
    ]
    file = folder / "t.ipynb"
    file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return file


@pytest.mark.parametrize("kind", VALUES)
def test_typing_a_value_gives_the_value(kind):
    @given(VALUES[kind], VALUES[kind])
    def holds(default, value):
        spec = {"x": Parameter("x", kind, default, "")}
        [back] = parse_parameters(spec, [f"x={json.dumps(value)}"]).values()
        assert back == value and type(back) is type(value)
        assert fill_parameters(spec, {"x": value}) == {"x": value} and fill_parameters(spec, {}) == {"x": default}

    holds()


@given(st.text())
def test_text_is_taken_as_it_is(text):
    assert parse_parameters({"x": Parameter("x", "str", "", "")}, [f"x={text}"]) == {"x": text}


@pytest.mark.parametrize(
    ("kind", "default", "text"),
    [("int", 1, "1.0"), ("int", 1, "true"), ("int", 1, ""), ("float", 1.0, "inf"), ("float", 1.0, "NaN"),
    ("float", 1.0, "1,5"), ("float", 1.0, "1e999"),
     ("bool", True, "1"), ("bool", True, "yes"), ("list", [1], "1,x"), ("list", [1], "[1.5]"), ("list", ["a"], "[1]"),
     ("list", [1], "[1")],
)  # fmt: skip
def test_a_wrong_type_is_named(kind, default, text):
    with pytest.raises(ConfigError, match=rf"parameter x \({kind}, default "):
        parse_parameters({"x": Parameter("x", kind, default, "")}, [f"x={text}"])


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "x: int",
        "x: int = 1 + 1",
        "x: tuple = ()",
        "x: int = 'a'",
        "x: float = 1e999",
        "import os",
        "x: int = (",
        "x: list[int] = [1]",
        "a.b: int = 1",
    ],
)
def test_a_parameters_cell_that_is_no_list_of_constants_is_refused(tmp_path, source):
    with pytest.raises(ReportError, match="breaks the convention"):
        read_parameters(notebook(tmp_path, ("parameters", source)))


def test_comments_belong_to_their_line(tmp_path):
    spec = read_parameters(
        notebook(
            tmp_path,
            ("parameters", 'a: str = "#1"  # a hash # in text\n# alone\nb: list = [\n    1,\n]  # two\nc: bool = True'),
        )
    )
    assert [(p.name, p.default, p.comment) for p in spec.values()] == [
        ("a", "#1", "a hash # in text"),
        ("b", [1], "two"),
        ("c", True, ""),
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"cells": [{}]}', "\x00"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, text):
    file = tmp_path / "t.ipynb"
    file.write_text(text)
    with pytest.raises(ReportError, match="t.ipynb is not a readable notebook"):
        read_cells(file)


def test_two_cells_with_one_tag_are_refused(tmp_path):
    with pytest.raises(ReportError, match="2 cells tagged 'parameters'"):
        read_parameters(notebook(tmp_path, ("parameters", "x: int = 1"), ("parameters", "y: int = 1")))


def test_a_default_is_not_shared():
    spec = {"x": Parameter("x", "list", [], "")}
    fill_parameters(spec, {})["x"].append(1)
    assert fill_parameters(spec, {}) == {"x": []}


def test_plain_leaves_only_what_json_can_hold():
    value = {"a": np.float32(0.5), "b": [np.int64(1), np.nan, -np.inf], "c": {"d": np.bool_(True)}, 5: None}
    assert json.dumps(plain(value), allow_nan=False) == '{"a": 0.5, "b": [1, null, null], "c": {"d": true}, "5": null}'


@pytest.mark.parametrize("metrics", [{"a": "text"}, {"a b": 1.0}, {"": 1.0}, {"a": [1.0]}, {"a": np.ones(2)}])
def test_only_named_numbers_are_metrics(metrics):
    with pytest.raises(ReportError, match="metric '"):
        emit(metrics)


def test_a_number_widens_and_nothing_else():
    assert check_value(Parameter("x", "float", 0.0, ""), 3) == 3.0
    assert check_value(Parameter("x", "list", [0.5], ""), [1]) == [1.0]
    assert check_value(Parameter("x", "list", [], ""), [1, "a"]) == [1, "a"]


@pytest.mark.parametrize(
    ("kind", "default", "good", "bad", "said"),
    [
        ("Annotated[int, Field(ge=10, le=500)]", 100, 10, 9, "type int from 10 to 500"),
        ("Annotated[float, Field(gt=0)]", 1.0, 2, 0, "type float that is greater than 0"),
        ("Literal['equal', 'rank']", "equal", "rank", "equl", "type str that is 'equal' or 'rank'"),
        ("Optional[Annotated[int, Field(le=3)]]", None, None, 4, "less than or equal to 3, or None"),
        ("Literal[1, 2]", 1, 2, 3, "type int that is 1 or 2"),
    ],
)
def test_a_range_and_a_choice_are_types(tmp_path, kind, default, good, bad, said):
    cell = f'x: "{kind}" = {default!r}  # words'
    spec = read_parameters(notebook(tmp_path, ("parameters", cell)))
    assert fill_parameters(spec, {"x": good}) == {"x": good} and fill_parameters(spec, {}) == {"x": default}
    with pytest.raises(ConfigError, match="parameter x ") as caught:
        fill_parameters(spec, {"x": bad})
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        parse_parameters(spec, [f"x={bad}"])
    assert parse_parameters(spec, [f"x={good}"]) == {"x": good}


@pytest.mark.parametrize(
    "kind", ["Annotated[tuple, Field()]", "Annotated[int, open('x')]", "Literal[y]", "Optional[x]"]
)
def test_a_type_that_no_cell_may_declare_is_refused(tmp_path, kind):
    with pytest.raises(ReportError, match="breaks the convention"):
        read_parameters(notebook(tmp_path, ("parameters", f'x: "{kind}" = 1')))


def test_the_model_of_a_cell_takes_no_unknown_name_and_converts_nothing():
    model = parameter_model({"a": Parameter("a", "int", 1, ""), "model_b": Parameter("model_b", "float", 0.5, "")})
    assert model(model_b=2).model_dump() == {"a": 1, "model_b": 2.0}
    for wrong in ({"c": 1}, {"a": "1"}, {"a": True}, {"a": 1.0}, {"model_b": float("inf")}):
        with pytest.raises(ValueError, match="validation error"):
            model(**wrong)


@pytest.mark.parametrize(
    "kind",
    ["dict", "Annotated[int, print(1)]", "().__class__", "Annotated[int, Field(10)]", "__import__('os').getcwd()"],
)
def test_a_type_is_read_and_never_run(kind):
    from quantlab.report.template import Parameter, parameter_model

    with pytest.raises((KeyError, TypeError, AttributeError)):
        parameter_model({"x": Parameter("x", kind, 1, "a number")})
