"""Models of transformers: what is trained, what is computed once, and what cannot be built."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from lrensemble import UserError
from lrensemble.models import build_model, identified
from lrensemble.tasks import load_task
from tests.text.tiny import write_lines, write_llama

LORA = {"rank": 4, "alpha": 8}


def built(folder, task, **parameters):
    parameters = identified("hf", {"weights": str(folder), **parameters})
    return build_model("hf", parameters=parameters, **task.facts)


def trained(model) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


@pytest.fixture(scope="module")
def sums(files, llama):
    return load_task("choices", root=files / "sums", tokenizer=str(llama))


@pytest.fixture(scope="module")
def colours(files, bert):
    return load_task("text", root=files / "texts", tokenizer=str(bert), max_length=32)


def batch_of(task, name="test"):
    dataset = task.split(name)
    return task.collate([dataset[i] for i in range(len(dataset))])


def test_what_is_trained(sums, colours, llama, bert):
    whole = built(llama, sums)
    assert trained(whole) == {name for name, _ in whole.named_parameters()}
    lora = built(llama, sums, lora=LORA)
    assert all("lora_" in name for name in trained(lora)) and len(trained(lora)) == 4 * 7 * 2
    top = built(llama, sums, lora={**LORA, "targets": "[qv]_proj"}, layers="last:1")
    assert {name.split(".")[3] for name in trained(top)} == {"3"} and len(trained(top)) == 4
    assert trained(built(llama, sums, layers="last:1")) == {
        *(name for name in trained(whole) if ".layers.3." in name),
        "inner.model.norm.weight",  # the head is the embedding, which lies below
    }
    head = {name for name in trained(built(bert, colours, lora=LORA, layers="last:2")) if "lora_" not in name}
    assert head == {"inner.classifier.weight", "inner.classifier.bias"}


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_of_other_classes_is_learnt_anew(classes, colours, bert, tmp_path):
    """The folder of a classifier: what its classes were is not what the task's are, be they as many or not."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(bert, num_labels=classes)
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    model = built(tmp_path, colours, lora={"rank": 2})
    assert {name for name in trained(model) if "lora_" not in name} == {
        "inner.classifier.weight",
        "inner.classifier.bias",
    }
    assert len(model.inner.classifier.bias) == colours.num_classes == 2


def test_lora_begins_as_its_base_and_merged_it_is_what_it_was(sums, llama):
    batch = batch_of(sums)
    with torch.no_grad():
        base = sums.scores(built(llama, sums), batch)
        model = built(llama, sums, lora=LORA)
        torch.testing.assert_close(sums.scores(model, batch), base)
        plain = built(llama, sums)
        tensors = dict(model.named_parameters())
        for name, value in tensors.items():
            if "lora_B" in name:
                value.normal_(std=0.1)
                change = LORA["alpha"] / LORA["rank"] * value @ tensors[name.replace("lora_B", "lora_A")]
                dict(plain.named_parameters())[name.replace("lora_B.default.", "")].add_(change)
        adapted = sums.scores(model, batch)
        torch.testing.assert_close(adapted, sums.scores(plain, batch), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(adapted, base)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_lower_layers_are_skipped_where_their_output_is_known(kind, sums, colours, llama, bert):
    task, folder = (sums, llama) if kind == "llama" else (colours, bert)
    model = built(folder, task, lora=LORA, layers="last:1").train()
    batch = batch_of(task)
    ids, mask = (batch[key].flatten(0, -2) for key in ("ids", "mask"))
    present = mask.any(-1)
    lower = model.lower(ids[present], mask[present])
    whole = lower.new_zeros(*mask.shape, lower.shape[-1])
    whole[present] = lower
    known = {**batch, "lower": whole.view(*batch["mask"].shape, -1)}
    calls = []
    model.below.upper[0].register_forward_hook(lambda *_: calls.append("upper"))
    inside = next(module for module in model.inner.base_model.modules() if hasattr(module, "is_last")).layer
    inside.register_forward_hook(lambda *_: calls.append("lower"))
    model.eval()
    with torch.no_grad():
        expected = task.scores(model, batch)
        assert "lower" in calls
        calls.clear()
        torch.testing.assert_close(task.scores(model, known), expected, rtol=1e-4, atol=1e-4)
    assert set(calls) == {"upper"}


def test_a_bert_has_no_dropout_below_what_is_trained(colours, bert):
    model = built(bert, colours, lora=LORA, layers="last:1").train()
    on = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout) and module.training}
    assert on and all(".layer.2." in name or name == "inner.dropout" for name in on)


def test_no_llama_without_what_it_needs(sums, files, llama, tmp_path):
    def refused(message: str, folder=llama, task=sums, **parameters):
        with pytest.raises(UserError, match=message):
            built(folder, task, **parameters)

    refused("lora.targets = 'query' matches no linear layer: there are self_attn.q_proj, ", lora={"targets": "query"})
    refused("lora: unknown option 'ranks': did you mean 'rank'", lora={"ranks": 3})
    refused("lora: rank = 0 is not possible: from 1 to", lora={"rank": 0})
    refused("lora: dora = 7 is not possible: true or false", lora={"dora": 7})
    refused("targets = .'q', 'v'.: one pattern is needed, as in", lora={"targets": ["q", "v"]})
    refused("layers = 'top:1': last:1 to last:4", layers="top:1")
    refused("layers = 'last:5'", layers="last:5")
    pickled = tmp_path / "pickled"
    shutil.copytree(llama, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused(r"pytorch_model.bin is pickled, which is not read", pickled)
    shutil.copytree(llama, other := tmp_path / "other")
    (other / "tokenizer.json").write_text((llama / "tokenizer.json").read_text() + " ")
    refused("its tokenizer|the tokenizer of .* is another than data.tokenizer's", other)
    parameters = identified("hf", {"weights": str(llama)})
    write_llama(moved := tmp_path / "moved", seed=1)
    with pytest.raises(UserError, match="is not the base that the member was trained on"):
        build_model("hf", parameters={**parameters, "weights": str(moved)}, **sums.facts)
    damaged = tmp_path / "damaged"
    shutil.copytree(llama, damaged)
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    refused("cannot be loaded for tokens", damaged)
    with pytest.raises(UserError, match="model hf is for tasks of texts"):
        build_model("hf", parameters=parameters, num_classes=2)
    write_llama(padless := tmp_path / "padless", pad=None)
    task = load_task("text", root=files / "texts", tokenizer=str(padless))
    refused("llama has no pad token", padless, task)
    short = load_task("text", root=files / "texts", tokenizer=str(padless), max_length=1000)
    refused("data.max_length = 1000: the model takes 256 tokens", padless, short)


def test_code_in_a_folder_does_not_run(sums, llama, tmp_path):
    shutil.copytree(llama, folder := tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    mark = tmp_path / "ran"
    (folder / "modeling_x.py").write_text(f"open({str(mark)!r}, 'w')\nclass X: pass\n")
    (folder / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoConfig": "modeling_x.X", "AutoModelForCausalLM": "modeling_x.X"}})
    )
    built(folder, sums)
    assert not mark.exists()


def test_a_classifier_finds_the_last_token_by_the_mask(tmp_path, llama):
    """Padding is no token of the vocabulary: token 0 at the end of a text is one."""
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(["a!", "bc!!!", "d!!", "ef", "g", "hi!"] * 4)]
    rows = [{**row, "text": f"{row['text']}{i}!"} for i, row in enumerate(rows)]  # "!" is the token 0
    task = load_task("text", root=write_lines(tmp_path / "train.jsonl", rows), tokenizer=str(llama))
    model = built(llama, task).eval()
    dataset = task.split("train")
    assert any(dataset[i].sequences[0][-1] == 0 for i in range(len(dataset)))
    with torch.no_grad():
        together = task.scores(model, batch_of(task, "train"))
        alone = torch.cat([task.scores(model, task.collate([dataset[i]])) for i in range(len(dataset))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
