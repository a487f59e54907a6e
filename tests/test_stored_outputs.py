"""The comparison of fresh with stored outputs: what counts as a change, and what is rounding on another machine."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import test_notebooks as script  # noqa: E402
from refresh import shrink_picture  # noqa: E402


@pytest.mark.parametrize(
    ("fresh", "stored", "same"),
    [
        ("PASS in 24 runs", "PASS in 24 runs", True),
        ("PASS in 24 runs", "PASS in 25 runs", False),  # whole numbers are exact
        ("mean 0.123456789", "mean 0.123456780", True),  # 7e-8 of its size
        ("mean 0.1235", "mean 0.1234", False),
        ("mean -0.5", "mean 0.5", False),
        ("1.0e-17", "0.0", True),
        ("1.0e-09", "1.1e-09", False),
        ("mean  0.5", "mean 0.5", False),  # blanks are text
        ("0.5 nan", "0.5 0.5", False),
        ("2020-01-31", "2020-02-01", False),
        ('<table id="T_eae65"> <td id="T_eae65_row0">', '<table id="T_d28d3"> <td id="T_d28d3_row0">', True),
    ],
)
def test_words_and_whole_numbers_exactly_other_numbers_closely(fresh, stored, same):
    assert script.same_text(fresh, stored) == same == script.same_text(stored, fresh)


@pytest.mark.parametrize(
    ("fresh", "stored", "same"),
    [("inside 0.86", "inside 0.84", True), ("2020-06-24 -0.626", "2020-06-24 -0.822", True),
     ("12.0", "14.9", True), ("S00    -0.1", "S00     0.1", True),
     ("12.0", "16.1", False), ("seed 1  0.5", "seed 2  0.5", False), ("kept 0.5", "lost 0.5", False)],
)  # fmt: skip
def test_of_what_a_network_learned_words_and_whole_numbers_are_exact(fresh, stored, same):
    assert script.same_text(fresh, stored, learned=True) == same
    assert not script.same_text(fresh, stored)


def drawn(shift: int = 0, size: tuple[int, int] = (400, 200), line: bool = True) -> str:
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    pen.line([(0, 100), (400, 100)], fill="black")
    if line:
        pen.line([(x, 100 + int(60 * np.sin(x / 30)) + shift) for x in range(0, 400, 2)], fill="navy", width=2)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return shrink_picture(base64.b64encode(buffer.getvalue()).decode())


def test_a_picture_with_another_curve_is_another_picture():
    assert script.same_picture(drawn(), drawn()) and script.same_picture(
        drawn(size=(401, 200)), drawn()
    )  # a rounded margin
    for other in (drawn(shift=4), drawn(line=False), drawn(size=(404, 200))):
        assert not script.same_picture(other, drawn())
        assert script.same_picture(other, drawn(), learned=True) == (other != drawn(size=(404, 200)))


def test_a_shade_is_not_a_change():
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn()))).convert("RGB")).astype(int)
    buffer = io.BytesIO()
    Image.fromarray(
        np.clip(image + np.random.default_rng(0).integers(-5, 6, image.shape), 0, 255).astype("uint8")
    ).save(buffer, "PNG")
    assert script.same_picture(base64.b64encode(buffer.getvalue()).decode(), drawn())


def result(text: str) -> dict:
    return {"output_type": "execute_result", "data": {"text/plain": [text]}, "metadata": {}}


def test_the_first_difference_is_named():
    printed = {"output_type": "stream", "name": "stdout", "text": ["one\n", "two\n"]}
    assert script.first_difference([printed, result("5")], [result("5"), printed]) is None  # in whatever order
    assert script.first_difference([result("5")], []) == "execute_result: 1 fresh, 0 stored"
    assert "stored: two" in script.first_difference([{**printed, "text": "one\nthree\n"}], [printed])
    assert script.first_difference([{**printed, "name": "stderr"}], []) is None
    other = {"output_type": "execute_result", "data": {"text/html": "5"}, "metadata": {}}
    assert "['text/html'] fresh" in script.first_difference([other], [result("5")])


def notebook(file: Path, *cells: tuple[str, str]) -> str:
    "Write a notebook of sources and stored results."
    listed = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{i}",
            "metadata": {},
            "source": source,
            "outputs": [dict(result(out), execution_count=None)] if out else [],
        }
        for i, (source, out) in enumerate(cells)
    ]
    file.write_text(json.dumps({"cells": listed, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return str(file)


def test_a_notebook_passes_fails_or_is_stale_with_the_place(tmp_path, monkeypatch, capsys):
    good = notebook(
        tmp_path / "good.ipynb",
        ("#| hide\nx = 2", ""),
        ("#| slow\nx = 3", ""),
        ("#| eval: false\nx = 4", ""),
        ("x + 0.5", "2.5"),
    )
    stale = notebook(tmp_path / "stale.ipynb", ("x = 1", ""), ("'PASS'", "'FAIL'"), ("globals().get('y')", ""))
    failing = notebook(tmp_path / "failing.ipynb", ("y = 1", ""), ("1 / 0", ""))
    dying = notebook(tmp_path / "dying.ipynb", ("import os", ""), ("os._exit(3)", ""))
    monkeypatch.setattr(sys, "argv", ["test_notebooks.py", good, "--workers", "1"])
    assert script.main() == 0 and "good.ipynb" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["test_notebooks.py", failing, stale, dying, "--workers", "1"])
    assert script.main() == 1
    said = capsys.readouterr().out
    assert (
        "cell 1: text/plain" in said and "stored: 'FAIL'" in said and "fresh:  'PASS'" in said and "cell 2" not in said
    )
    assert (
        "cell 1 failed" in said
        and "ZeroDivisionError" in said
        and "died with exit code 3" in said
        and "3 of 3 notebooks" in said
    )
