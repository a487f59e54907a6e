# Create or bring up to date .venv from requirements.lock. Called by the Makefile with PYTHON set.
set -eu
if [ -z "${PYTHON:-}" ]; then
  echo "quantlab needs Python 3.11 or 3.12, and none is on the PATH (found: $(python3 --version 2>&1 || true))." >&2
  echo "Install one of them, or say where it is: make PYTHON=/path/to/python3.12 <target>" >&2
  exit 2
fi
"$PYTHON" - <<'PY' || exit 2
import ctypes, sys
library, remedy = {
    "linux": ("libgomp.so.1", "apt-get install libgomp1   (Debian, Ubuntu)   or   dnf install libgomp   (Fedora, RHEL)"),
    "darwin": ("libomp.dylib", "brew install libomp"),
}.get(sys.platform, (None, None))
def loads(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
places = [library] if sys.platform != "darwin" else [library, "/opt/homebrew/opt/libomp/lib/libomp.dylib", "/usr/local/opt/libomp/lib/libomp.dylib"]
if library and not any(map(loads, places)):
    sys.exit(f"LightGBM needs the system library {library}, which is not installed.\nInstall it, then run make again:  {remedy}")
PY
# A venv of another Python version is made anew; otherwise only what differs from the lock is installed.
wanted=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
have=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
if [ "$wanted" != "$have" ]; then
  rm -rf .venv
  "$PYTHON" -m venv .venv || { echo "Python's venv module is not complete; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
fi
uv=$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)
echo "Installing the locked packages into .venv (about a minute the first time) ..."
.venv/bin/python -m pip install -q --disable-pip-version-check "$uv"
.venv/bin/uv pip install -q --python .venv/bin/python -r requirements.lock
# Compiled here, for an interpreter that may write no bytecode (containers forbid it) would compile at every start.
.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python --no-deps -e .
echo "Compiling the kernels (half a minute, once) ..."
.venv/bin/python scripts/compile.py >/dev/null
.venv/bin/python -m compileall -q quantlab
touch .venv/.installed
