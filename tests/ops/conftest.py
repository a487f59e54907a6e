"Somebody who may sign a promotion."

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from quantlab.ops.passport import Signer


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
