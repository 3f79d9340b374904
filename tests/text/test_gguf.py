"""A file in GGUF, as llama.cpp has it, becomes a folder once that holds the model it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lrensemble import UserError, model_folder
from lrensemble.model_folder import find_folder, weights_hash
from lrensemble.tasks.text import TextForm

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")


def write_gguf(folder: Path, path: Path) -> None:
    """The Llama of a folder: tensors and vocabulary by llama.cpp's names, its queries and keys in its own order."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    c = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
    writer.add_vocab_size(c.vocab_size)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    tokens = {**vocabulary["model"]["vocab"], **{one["content"]: one["id"] for one in vocabulary["added_tokens"]}}
    writer.add_tokenizer_model("gpt2")
    listed = sorted(tokens, key=tokens.__getitem__)
    listed[listed.index("ÿ")] = "ab"  # a byte that no text has; without any merge the reader takes it for another kind
    writer.add_token_list(listed)
    writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])  # normal, control
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(c.eos_token_id)
    writer.add_pad_token_id(c.pad_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, c.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        heads = c.num_attention_heads
        if "q_proj" in name or "k_proj" in name:
            value = value.view(heads, 2, -1, c.hidden_size).transpose(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_converted_once(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "CACHE", tmp_path / "cache")
    write_gguf(llama, file := tmp_path / "tiny.gguf")
    folder = find_folder(file, "model hf: weights")
    assert folder.parent == tmp_path / "cache"
    ids = torch.arange(40).view(2, 20)
    models = [transformers.AutoModelForCausalLM.from_pretrained(place).eval() for place in (llama, folder)]
    with torch.inference_mode():
        expected, found = (model(ids).logits for model in models)
    torch.testing.assert_close(found, expected)
    own, its = (
        TextForm.of({"name": "choices", "tokenizer": str(place)}).task(["A"]).tokenizer for place in (llama, folder)
    )
    assert [t.tolist() for t in its(["9 + 1", "ä"])] == [t.tolist() for t in own(["9 + 1", "ä"])]
    hash = weights_hash(folder)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)  # not called again
    assert weights_hash(find_folder(file, "model hf: weights")) == hash


def test_a_damaged_one_is_one_line_and_leaves_nothing(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "CACHE", tmp_path / "cache")
    write_gguf(llama, file := tmp_path / "tiny.gguf")
    for content in (file.read_bytes()[:2000], b"GGUF" + b"\xff" * 60, b""):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"^model hf: weights: .*tiny.gguf cannot be converted: [^\n]*$"):
            find_folder(file, "model hf: weights")
    assert not any((tmp_path / "cache").iterdir())
