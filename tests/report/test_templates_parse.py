"Every template is Python of the oldest version that is supported: pages that only slow tests run may not rot."

import ast
import json

import pytest

from quantlab.core.config import root

TEMPLATES = sorted((root() / "reports").glob("*.ipynb"))


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_each_cell_parses(file):
    code = ["".join(c["source"]) for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]
    assert code
    for source in code:
        ast.parse(source)
