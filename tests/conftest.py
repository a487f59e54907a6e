"Settings of every test, and the server that two files share."

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fuzz", deadline=None)  # new examples at each run: make fuzz
if settings.get_current_profile_name() == "default":  # scripts/mutate.py brings its own
    # How long an example takes on a busy machine is no property; the same examples at each run, so that a commit
    # that was green stays green.
    settings.register_profile("tests", deadline=None, derandomize=True)
    settings.load_profile("tests")

BINARIES = [
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    *map(Path, filter(None, [shutil.which("initdb") and os.path.dirname(shutil.which("initdb"))])),
]


def unprivileged():
    "PostgreSQL refuses to run as root: find someone else."
    if os.getuid():
        return {}
    user = pwd.getpwnam("postgres" if any(p.pw_name == "postgres" for p in pwd.getpwall()) else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres_server():
    "Start one PostgreSQL for the files of a worker that ask for it; yield its address."
    if not BINARIES:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql runs these tests")
    psycopg = pytest.importorskip("psycopg")
    who, folder = unprivileged(), Path(tempfile.mkdtemp(prefix="pg"))
    if who:
        os.chown(folder, who["user"], who["group"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, quiet = folder / "data", {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **who}
    subprocess.run(
        [BINARIES[0] / "initdb", "-D", data, "-U", "quant", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        timeout=60,
        **quiet,
    )
    options = [
        "-p",
        str(port),
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
        "-c",
        "shared_buffers=16MB",
    ]
    process = subprocess.Popen([BINARIES[0] / "postgres", "-D", data, *options], **quiet)
    try:
        dsn = f"host=127.0.0.1 port={port} user=quant dbname=postgres"
        for _ in range(100):
            try:
                psycopg.connect(dsn).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield dsn
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
