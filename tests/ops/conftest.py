"Somebody who may sign a promotion, and a small recipe that is served."

from types import SimpleNamespace

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from quantlab.core.ledger import Ledger
from quantlab.monitor.logs import open_log
from quantlab.ops.passport import Signer
from quantlab.recipe.spec import Recipe


@pytest.fixture(scope="session")
def ann(tmp_path_factory):
    "A key, a file of signers that knows it, and a folder for passports."
    folder = tmp_path_factory.mktemp("ann")
    secret = Ed25519PrivateKey.generate()
    (folder / "key").write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = secret.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (folder / "signers").write_text(f"ann {public} her laptop\n")
    signer = Signer("ann", "small, old and paid for", folder / "key")
    given = {"signer": signer, "signers": folder / "signers", "folder": folder / "passports"}
    return SimpleNamespace(signer=signer, signers=folder / "signers", folder=folder / "passports", given=given)


SERVED = "AAPL, AMZN, BA, BAC, CAT, CSCO, CVX, DIS, GE, IBM, KO, XOM"
EVENING = "2014-12-31 22:00"  # after the last close of the recipe's bars


@pytest.fixture(scope="session")
def registered_small(tmp_path_factory):
    "A small recipe that was run and registered: its run, ledger, store and folder."
    for library, extra in (("fastapi", "serve"), ("uvicorn", "serve"), ("httpx", "client"), ("mlflow", "mlflow")):
        pytest.importorskip(library, reason=f"{library} is not installed: pip install 'quantlab[{extra}]'")
    from quantlab.ops.registry import register_recipe
    from quantlab.recipe.run import run

    recipe = Recipe().replace(
        name="small", data__universe=SERVED, data__end="2014-12-31",
        features__use=["rev_21", "mom_63_5"], model__kind="ridge", split__train_sessions=252, split__test_sessions=252,
        policy__top_k=4, policy__buffer=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("served")
    ledger, store = Ledger(folder / "ledger.sqlite"), folder / "mlflow.sqlite"
    done = run(recipe, ledger=ledger)
    register_recipe(done, store, ledger)
    return SimpleNamespace(done=done, ledger=ledger, store=store, folder=folder)


@pytest.fixture(scope="session")
def held(registered_small):
    "Its answers on the evening of its last bars."
    from quantlab.ops.answers import Answers

    evening, small = pd.Timestamp(EVENING, tz="UTC"), registered_small
    answers = Answers("small", "candidate", 1e6, small.store, small.ledger, clock=lambda: evening)
    answers.refresh()
    return answers


@pytest.fixture(scope="module")
def served(registered_small, held, tmp_path_factory):
    "A server of these answers: address, tokens by scope, table of jobs, log file, folder."
    import httpx

    from quantlab.ops.jobs import JobTable
    from quantlab.ops.server import DoorLimits, create_app, serving
    from quantlab.ops.tokens import SCOPES, TokenFile

    folder = tmp_path_factory.mktemp("server")
    tokens, jobs, log = TokenFile(folder / "tokens.json"), JobTable(folder / "jobs.sqlite"), folder / "server.log"
    token = {"all": tokens.issue("ann", SCOPES)} | {scope: tokens.issue(f"only-{scope}", [scope]) for scope in SCOPES}
    limits = DoorLimits(rate=100_000, seconds=1.0)
    app = create_app(held, tokens, jobs, limits=limits, log=open_log("server", log))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as line:
        line.headers["Authorization"] = f"Bearer {token['all']}"
        yield SimpleNamespace(
            app=app, address=address, line=line, port=int(address.rpartition(":")[2]), tokens=tokens, token=token,
            jobs=jobs, log=log, folder=folder, done=registered_small.done, answers=held, ledger=registered_small.ledger,
            store=registered_small.store,
        )  # fmt: skip
