"""Run the benchmarks: each file beside this one with a main() is one. Usage: python bench/run.py [name ...]"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(
    file.stem for file in HERE.glob("*.py") if "\ndef main(" in file.read_text(encoding="utf-8") and file.stem != "run"
)


def main(chosen: list[str]) -> int:
    "Run the chosen benchmarks, or all, and print one JSON line for each."
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there is: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as empty:
        os.environ["NUMBA_CACHE_DIR"] = empty  # so that the first call compiles: cold is cold
        for name in chosen or NAMES:
            benchmark = importlib.import_module(name)
            print(f"== {name}: {benchmark.__doc__.strip().splitlines()[0]}", flush=True)
            print(json.dumps(benchmark.main()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
