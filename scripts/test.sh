# Prove the workspace, in the order in which a failure is cheapest to read. Called by `make test`.
set -eu -o pipefail
bin=$PWD/.venv/bin
export OMP_NUM_THREADS=1
say() { printf '\n== %s\n' "$1"; }
fingerprint() { find nbs quantlab reports -path reports/runs -prune -o \( -name '*.ipynb' -o -name '*.py' \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; }

# Trials and runs of the tests are recorded in a ledger and a store of their own.
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
export QUANTLAB_RESEARCH_LEDGER=$own/ledger.sqlite QUANTLAB_RESEARCH_TRACKING=$own/mlflow.sqlite QUANTLAB_RESEARCH_RUNS=$own/runs

say "notebooks are clean and exported"
before=$(fingerprint)
"$bin/nbdev_clean"
for template in reports/*.ipynb; do "$bin/nbdev_clean" --fname "$template"; done
"$bin/python" scripts/export.py
diff <(echo "$before") <(fingerprint) || { echo "nbdev_clean or scripts/export.py changed these files: look at them and commit. After a plain nbdev_export the docstrings lack their sections: run make export instead."; exit 1; }

say "lint"
"$bin/ruff" check quantlab scripts tests bench
"$bin/python" -m mypy
"$bin/python" scripts/house.py | tail -24
say "import contracts"
"$bin/lint-imports" --no-cache

say "notebooks run, and show what is stored"
count=$(find nbs -name '[0-9]*.ipynb' -not -path '*/.*' | wc -l)
[ "$count" -ge 30 ] || { echo "only $count numbered notebooks found under nbs/"; exit 1; }
echo "$count numbered notebooks"
"$bin/python" scripts/test_notebooks.py --workers 2

say "tests"
"$bin/pytest" -q -n 2 --dist loadfile -m "not slow" tests
if [ -d mine ]; then  # what quantlab new has made, in a process of its own: names of files may be those of ours
  say "tests of mine/"
  "$bin/pytest" -q -m "not slow" mine
fi
say "templates"
"$bin/pytest" -q -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --ignore=reports/runs -p no:cacheprovider $(grep -L '"slow"' reports/*.ipynb)

# All passed: the workspace's own ledger learns that these sources did, which a promotion asks for.
env -u QUANTLAB_RESEARCH_LEDGER "$bin/python" -c "from quantlab.ops.papers import record_export, record_tests; record_export(); record_tests()"
