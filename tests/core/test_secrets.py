"Messages lose their secrets and nothing else; .env sets only what concerns the workspace."

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.core import config
from quantlab.core.errors import ConfigError

SECRET = st.text("abcdefXYZ0123456789!$%^*_+-", min_size=6, max_size=20)


@settings(max_examples=60)
@given(SECRET, st.sampled_from([
    "cannot reach postgresql://quant:{}@db.example:5432/prices?sslmode=require",
    "mysql+pymysql://u:{}@host said no",
    "redis://:{}@cache/0 said no",
    "connection failed: host=db user=quant password={} dbname=prices",
    "host=db password='{}' user=quant",
    'answered 403 to {{"apiKey": "{}", "limit": 5}}',
    "GET /v2/aggs?adjusted=true&apiKey={}&limit=5 answered 403",
    "PGPASSWORD={} quantlab data list",
    "token: {}",
]))  # fmt: skip
def test_no_secret_survives(secret, text):
    shown = config.redact(text.format(secret))
    assert secret not in shown and "***" in shown
    for word in ("db.example:5432/prices", "said no", "dbname=prices", "user=quant", "limit", "quantlab data list"):
        assert (word in text) <= (word in shown), shown


@pytest.mark.parametrize("text", [
    "parameter top_k (int, default 30: names held) cannot be 'many'; give a value of type int",
    "no bars between 2010-01-04 and 2030-01-01; the data runs from 2010-01-04 to 2023-12-29",
    "see https://github.com/mementum/backtrader, and data/lake/a:b@c",
    "NASDAQ_DATA_LINK_API_KEY is not set; put the provider's key into the environment (never into a notebook)",
    "the tokens are sorted, the key of the ledger is 0123abcd",
])  # fmt: skip
def test_other_messages_stay_as_they_are(text):
    assert config.redact(text) == text


def test_what_the_environment_keeps_secret_is_never_shown(monkeypatch):
    monkeypatch.setenv("MY_VENDOR_API_KEY", "k7Qx9z")
    monkeypatch.setenv("DB_PASSWORD", "abc")  # too short to be told from other words
    assert config.redact("403 for k7Qx9z: abc") == "403 for ***: abc"


@pytest.fixture
def place(tmp_path, monkeypatch):
    shutil.copy(config.root() / "settings.ini", tmp_path / "settings.ini")
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    for name in ("POLYGON_API_KEY", "PGPASSWORD", "QUANTLAB_RESEARCH_SEED", "A_TOKEN"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    return tmp_path


def test_the_env_file_sets_what_is_not_set_and_what_is_ours(place, monkeypatch):
    monkeypatch.setenv("POLYGON_API_KEY", "given")
    kept = {name: os.environ.get(name) for name in ("PATH", "PYTHONPATH", "LD_PRELOAD", "PYTHONSTARTUP", "HOME")}
    lines = [
        "\ufeff# a comment",
        "",
        "POLYGON_API_KEY=other",
        'PGPASSWORD = "a b=c"',
        "export QUANTLAB_RESEARCH_SEED=5",
        "A_TOKEN=",
        *(f"{name}=/evil" for name in kept),
    ]
    (place / ".env").write_text("\n".join(lines), encoding="utf-8")
    assert config.load_env() == ["PGPASSWORD", "QUANTLAB_RESEARCH_SEED"]
    assert (
        os.environ["PGPASSWORD"] == "a b=c"
        and config.setting("research", "seed", int) == 5
        and os.environ["POLYGON_API_KEY"] == "given"
    )
    assert "A_TOKEN" not in os.environ and kept == {name: os.environ.get(name) for name in kept}


def test_a_broken_line_is_named_without_its_content(place):
    (place / ".env").write_text("A_TOKEN=1\nPOLYGON-API-KEY=sesame\n")
    with pytest.raises(ConfigError, match="line 2 of .env") as caught:
        config.load_env()
    assert "sesame" not in str(caught.value)


def test_no_workspace_no_env_file(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_ROOT", str(tmp_path))
    assert config.load_env() == []


def test_a_module_that_fails_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_here.py").write_text("1 +\n")
    (tmp_path / "raising_here.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for text, words in {
        "broken_here:x": "SyntaxError",
        "raising_here:x": "ZeroDivisionError",
        "math:nothing": "cannot import",
        "math": "is not module:name",
    }.items():
        with pytest.raises(ConfigError, match=words):
            config.import_named(text)


def test_both_keys_of_a_broker_are_read_and_hidden(monkeypatch):
    from quantlab.core.config import _OURS, redact

    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
        assert _OURS.fullmatch(name) and redact(f"403 for value of {name}") == "403 for ***"
        assert "x7" not in redact(f"headers: {name}=x7") and "x7" not in redact(f'{{"{name.lower()}": "x7"}}')
