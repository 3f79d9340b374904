"""Pools of texts from training to an exported team."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lrensemble import Ensemble, Pool, UserError, export_team, load_config, select_teams, train_pool
from lrensemble.cli.main import main
from lrensemble.evaluation.network import load_data, load_model
from lrensemble.export.soup import _spec, _write, make_soups
from lrensemble.models import build_model
from lrensemble.tasks import load_task
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run, fit
from lrensemble.training.plan import make_plan
from tests.text.tiny import texts, write_lines, write_llama


def config(root: Path, folder: Path, name: str, of=None, **changes):
    return load_config(
        {
            "name": "tiny",
            "data": {"name": name, "root": str(root)},
            "model": {"name": "hf", "weights": str(folder), "layers": "last:1", "lora": {"rank": 4, "alpha": 8}},
            "optimizer": "AdamW",
            "training": {"epochs": 2, "batch_size": 8, "clip": 1.0, "shared_init": True},
            "policies": ["LINEAR(k0=[0.01, 0.02])"],
            **changes,
        },
        model=of,
    )


@pytest.fixture(scope="module")
def choices(files, llama, tmp_path_factory) -> Pool:
    path = tmp_path_factory.mktemp("pools") / "choices"
    return train_pool(config(files / "sums", llama, "choices"), path, workers=1, threads=1, devices="cpu")


@pytest.fixture(scope="module")
def classes(files, bert, tmp_path_factory) -> Pool:
    path = tmp_path_factory.mktemp("pools") / "classes"
    data = {"name": "text", "root": str(files / "texts"), "max_length": 32}
    made = config(files / "texts", bert, "text", data=data)
    return train_pool(made, path, workers=1, threads=1, devices="cpu")


def test_a_pool_of_choices_knows_them_and_saves_adapters_alone(choices, llama):
    mask = choices.choices("test")
    assert mask is not None and set(mask.sum(1)) == {2, 3, 4}
    predictions = np.asarray(choices.predictions("test"))
    assert (predictions[:, ~mask] == 0).all() and np.isclose(predictions.sum(2), 1).all()
    for member in choices.complete:
        assert all("lora_" in name for name in load_file(member.path / "weights.safetensors"))
        assert member.record.base and member.record.spec.model.parameters["weights_hash"]
        assert member.record.costs["tokens"] > 0
    assert choices.task.data["tokenizer"] == str(llama)  # as the configuration says no other


def test_a_dry_run_counts_the_rows(files, llama, tmp_path, capsys):
    path = tmp_path / "c.json"
    path.write_text(config(files / "sums", llama, "choices").model_dump_json(exclude_unset=True))
    assert main(["train", str(path), "--dry-run", "--pool", str(tmp_path / "p")]) == 0
    assert "choices: 36 train, 4 validation and 12 test rows" in capsys.readouterr().out
    assert not (tmp_path / "p").exists()


def test_a_resumed_run_equals_an_uninterrupted_one(files, llama):
    made = config(files / "sums", llama, "choices", training={"epochs": 3, "batch_size": 8, "clip": 0.5})
    task = load_task("choices", **made.data.options)
    spec, data = made.specs()[0], Engine().rows(task, torch.device("cpu"))
    states = []
    whole = fit(Run(spec, "m", data), after_epoch=lambda run: states.append(torch.load(_saved(run.state()))))
    resumed = fit(Run(spec, "m", data), state=states[0])
    assert whole.weights.keys() == resumed.weights.keys()
    assert all(torch.equal(whole.weights[name], resumed.weights[name]) for name in whole.weights)
    np.testing.assert_array_equal(whole.probabilities["test"], resumed.probabilities["test"])


def _saved(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def test_equal_weights_with_another_configuration_are_computed_anew(files, llama, tmp_path):
    shutil.copytree(llama, tmp_path / "other")
    values = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**values, "rms_norm_eps": 0.5}))
    found = []
    for folder in (llama, tmp_path / "other", llama):
        made = config(files / "sums", folder, "choices", data={"name": "choices", "root": str(files / "sums")})
        task = load_task("choices", **{**made.data.options, "tokenizer": str(llama)})
        run = Run(made.specs()[0], "m", Engine().rows(task, torch.device("cpu")))
        found.append(next(run.data.val.chunks(4))["lower"])
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1], atol=1e-3)


def test_other_threads_compute_anew(files, llama):
    """Sums of more threads have other bits: a run is the same whatever its process has trained before."""
    made = config(files / "sums", llama, "choices")
    rows = Engine().rows(load_task("choices", **made.data.options), torch.device("cpu"))
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            found.append(Run(made.specs()[0], "m", rows).data)
    finally:
        torch.set_num_threads(before)
    assert found[0] is not found[1] is found[2]


def test_pieces_and_no_cache_change_rounding_alone(files, llama):
    made = config(files / "sums", llama, "choices")
    task = load_task("choices", **made.data.options)
    found = []
    for engine in (Engine(), Engine(cache_lower=False), Engine(micro_batches=3)):
        data = engine.rows(task, torch.device("cpu"))
        run = Run(made.specs()[0], "m", data, engine, None, engine.micro_batches)
        assert ("lower" in next(run.data.val.chunks(2))) == engine.cache_lower
        found.append(fit(run).probabilities["test"])
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)
    np.testing.assert_allclose(found[2], found[0], atol=1e-3)
    with pytest.raises(UserError, match=r"engine.micro_batches = 9 leave less than one row a piece: a batch has 8"):
        make_plan(config(files / "sums", llama, "choices", engine={"micro_batches": 9}), Path("none"))


def test_full_fine_tuning_learns(files, llama, tmp_path):
    """Of texts whose class is their first word."""
    made = config(
        files / "texts", llama, "text",
        model={"name": "hf", "weights": str(llama)}, policies=["LINEAR(k0=0.005)"],
        training={"epochs": 12, "batch_size": 8},
    )  # fmt: skip
    pool = train_pool(made, tmp_path / "pool", workers=1, threads=1, devices="cpu")
    [member] = pool.complete
    assert member.record.base is None and member.record.val["accuracy"] == 1
    assert float((np.asarray(pool.predictions("test"))[0].argmax(1) == pool.labels("test")).mean()) == 1
    [team] = select_teams(pool, ["all"])
    export_team(pool, team, tmp_path / "team", benchmark=False)
    assert Ensemble.load(tmp_path / "team").predict(["red apples", "blue skies"]).tolist() == [1, 0]


def served_as_predicted(folder, kind):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    from fastapi.testclient import TestClient

    from lrensemble.export.predict import reader_of
    from lrensemble.export.serve import app_of

    team = Ensemble.load(folder)
    client = TestClient(app_of(team, reader_of(team, convert=False, resize=False, scale=1.0, key=None)))
    question = {"question": "1 + 1", "choices": ["2", "5"]}
    rows = [question] * 2 if kind == "choices" else ["red apples", {team.module.form.text: "blue skies"}]
    found = client.post("/predict", json={"rows": rows}).json()["predictions"]
    assert [row["index"] for row in found] == team.predict(rows).tolist()
    for wrong in ([3], [""], [{"other": "x"}]):
        answer = client.post("/predict", json={"rows": wrong})
        assert answer.status_code == 400 and "row 0: " in answer.json()["error"]


def asked(hidden):
    """Whether there is something: of values in a batch of members that is an error."""
    assert float(hidden.abs().sum()) > 0


def batched_as_swapped(team, batch):
    """Adapters of one base are one batch: their layers run once, and give what each gives alone."""
    [model], calls = team.models, []
    counting = model.below.upper[-1].register_forward_hook(lambda *_: calls.append(1))
    batched, of_batch = team(batch), len(calls)
    asking = model.below.upper[-1].register_forward_hook(lambda *_: asked(_[2][0]), prepend=True)
    swapped, of_each = team(batch), len(calls) - of_batch  # a layer that looks at values is nothing for a batch of them
    assert team.apart == {model}
    team.apart.clear()
    counting.remove()
    asking.remove()
    assert (of_batch, of_each) == (1, len(team.learnt)) and len(team.learnt) > 1
    torch.testing.assert_close(batched, swapped, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["choices", "classes"])
def test_an_exported_team_predicts_and_peft_reads_its_members(kind, request, tmp_path, llama, bert, capsys):
    import peft
    import transformers

    pool = request.getfixturevalue(kind)
    [team] = select_teams(pool, ["all"])
    card = export_team(pool, team, tmp_path / "team")
    assert card.checks["adapters"].rows == 12 and card.checks["adapters"].largest_difference < 1e-5
    assert {timing.batch for timing in card.timings} == {1, 12}
    served_as_predicted(tmp_path / "team", kind)
    (wrong := tmp_path / "wrong.jsonl").write_text("[1]\n")
    main(["predict", str(tmp_path / "team"), str(wrong), "--format", "json"])
    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error["file"] == str(wrong) and error["error"].startswith("line 1: '[1]'")
    folder = tmp_path / "team" / "members" / card.members[0].id
    assert {path.name for path in folder.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    assert not list((tmp_path / "team").rglob("model.safetensors"))  # the base is not in it
    if kind == "choices":
        base = transformers.AutoModelForCausalLM.from_pretrained(llama)
        rows = [{"question": "1 + 1", "choices": ["2", "5"]}, {"question": "2 + 1", "choices": ["4", "9", "3", "1"]}]
    else:
        base = transformers.AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
        rows = ["red number 3", "blue number 8 and so on"]
    loaded = Ensemble.load(tmp_path / "team")
    found = loaded.predict_proba(rows)
    assert found.shape == (2, len(pool.task.class_names)) and np.isclose(found.sum(1), 1, atol=1e-6).all()
    if kind == "choices":
        assert (found[0, 2:] == 0).all() and (found[1] > 0).all()
    adapted = peft.PeftModel.from_pretrained(base, folder).eval()
    tokens = loaded.module.form.rows(_rows(rows, kind), loaded.module.task)
    batch = loaded.module.task.collate(tokens)
    with torch.no_grad():
        if kind == "classes":
            scores = adapted(
                input_ids=batch["ids"].masked_fill(~batch["mask"], 256), attention_mask=batch["mask"]
            ).logits
        else:
            scores = loaded.module.task.scores(
                lambda ids, mask, keep: adapted(input_ids=ids, attention_mask=mask).logits[keep], batch
            )
    one = loaded.module
    batched_as_swapped(one, batch)
    one.learnt, one.counts, one.temperatures = one.learnt[:1], one.counts[:1], one.temperatures[:1]
    np.testing.assert_allclose(loaded.predict_proba(rows), scores.softmax(1).numpy(), atol=1e-5)


def _rows(rows, kind):
    from lrensemble.tasks.text.reading import TextRow

    return [TextRow(row if kind == "choices" else {"text": row}, "here") for row in rows]


def test_a_soup_averages_updates_exactly(choices, tmp_path, llama):
    pool = Pool.open(shutil.copytree(choices.path, tmp_path / "pool"))
    members = pool.complete
    [soups] = make_soups(pool, device="cpu")
    task = load_data(pool)
    plain = build_model("hf", parameters={"weights": str(llama)}, **task.facts).eval()
    tensors = dict(plain.named_parameters())
    with torch.no_grad():
        for member in members:
            learnt = load_file(member.path / "weights.safetensors")
            for name in (name for name in learnt if "lora_B" in name):
                change = 2 * learnt[name] @ learnt[name.replace("lora_B", "lora_A")]  # alpha / rank = 2
                tensors[name.replace("lora_B.default.", "")].add_(change / len(members))
        dataset = task.split("val")
        scores = task.scores(plain, task.collate([dataset[i] for i in range(len(dataset))]))
    nll = float(torch.nn.functional.cross_entropy(scores, torch.tensor(pool.labels("val"))))
    assert soups.uniform.nll == pytest.approx(nll, abs=1e-5)
    [planned] = pool.plan([_spec(members)])
    _write(pool, members, _souped_of(pool, members, task), DeviceData.of(task, torch.device("cpu")))
    written = Pool.open(pool.path).find(planned.id)
    assert written.record.spec.derived.name == "soup" and load_model(written, task.facts)
    np.testing.assert_allclose(np.load(written.path / "predictions/val.npy"), scores.softmax(1).numpy(), atol=1e-5)


def _souped_of(pool, members, task):
    from lrensemble.export.soup import _souped, _sum, _weights

    total = functools.reduce(_sum, (_weights(pool, member, False, task) for member in members))
    return _souped(None, total, members, DeviceData.of(task, torch.device("cpu")), 8)


def test_predict_reads_files_of_texts(classes, tmp_path, capsys):
    [team] = select_teams(classes, ["all"])
    export_team(classes, team, tmp_path / "team", benchmark=False)
    path = write_lines(tmp_path / "new.jsonl", [{"text": row["text"]} for row in texts(3)])
    assert main(["predict", str(tmp_path / "team"), str(path), "--format", "json"]) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    assert [answer["row"] for answer in answers] == [0, 1, 2] and {a["class"] for a in answers} <= {"warm", "cold"}
    bad = write_lines(tmp_path / "bad.jsonl", [{"txt": "a"}])
    assert main(["predict", str(tmp_path / "team"), str(bad)]) == 1
    assert "no 'text': did you mean 'txt'" in capsys.readouterr().err


def test_another_base_is_refused(choices, tmp_path, llama):
    [team] = select_teams(choices, ["all"])
    export_team(choices, team, tmp_path / "team", benchmark=False)
    kept = (llama / "model.safetensors").read_bytes()
    try:
        write_llama(llama, seed=3)
        with pytest.raises(UserError, match="is not the base that the member was trained on"):
            Ensemble.load(tmp_path / "team")
    finally:
        (llama / "model.safetensors").write_bytes(kept)


class Bag(torch.nn.Module):
    """Somebody's own: the mean of embeddings."""

    def __init__(self, vocabulary: int, num_classes: int) -> None:
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(vocabulary, 16), torch.nn.Linear(16, num_classes)

    def forward(self, ids, mask):
        mean = (self.embed(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(mean)


def test_a_model_of_ones_own(files, llama, tmp_path):
    made = config(
        files / "texts", llama, "text", model={}, policies=["FIX(k0=0.05)"], training={"epochs": 20, "batch_size": 8},
        data={"name": "text", "root": str(files / "texts"), "tokenizer": str(llama)}, of=Bag,
    )  # fmt: skip
    pool = train_pool(made, tmp_path / "pool", workers=1, threads=1, devices="cpu")
    assert pool.complete[0].record.val["accuracy"] == 1
    [team] = select_teams(pool, ["all"])
    export_team(pool, team, tmp_path / "team", benchmark=False, trust=True)
    with pytest.raises(UserError, match="--trust"):
        Ensemble.load(tmp_path / "team")
    assert Ensemble.load(tmp_path / "team", trust=True).predict(["red", "blue"]).tolist() == [1, 0]


@pytest.mark.slow
def test_a_killed_run_goes_on(files, llama, tmp_path):
    """kill -9 in the middle: the same bits as a run that nobody killed."""
    made = config(files / "sums", llama, "choices", policies=["LINEAR(k0=0.01)"])
    text = made.model_copy(update={"training": made.training.model_copy(update={"epochs": 15})}).model_dump_json()
    (tmp_path / "c.json").write_text(text)
    code = (
        "import lrensemble.training.member as m; m.CHECKPOINT_SECONDS = 0.0; m.CHECKPOINT_SHARE = 1e9\n"
        "from lrensemble import train_pool\n"
        f"train_pool({str(tmp_path / 'c.json')!r}, {str(tmp_path / 'pool')!r}, workers=1, threads=1, devices='cpu')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    deadline = time.monotonic() + 300
    while not list((tmp_path / "pool").glob("members/*/state.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pool = train_pool(tmp_path / "c.json", tmp_path / "pool", workers=1, threads=1, devices="cpu")
    whole = train_pool(tmp_path / "c.json", tmp_path / "whole", workers=1, threads=1, devices="cpu")
    a, b = (load_file(p.complete[0].path / "weights.safetensors") for p in (pool, whole))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
