"""Logs and hyperparameters of many tools become one history and one table of facts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrensemble import Policy, UserError
from lrensemble.adopt.beside import RunFacts, read_beside
from lrensemble.adopt.files import Checkpoint, find_checkpoints
from lrensemble.adopt.names import fact, facts_of, history_of
from lrensemble.adopt.policy import policy_of
from lrensemble.adopt.studies import trial_of
from lrensemble.adopt.wandb_log import read_log

FIXTURES = Path(__file__).parents[1] / "fixtures"


def touched(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return sorted(str(c.path.relative_to(root)) for c in find_checkpoints([root]))


def test_which_files_are_checkpoints(tmp_path):
    found = touched(
        tmp_path,
        "lightning/version_0/checkpoints/epoch=2.ckpt",
        "hf/checkpoint-10/model.safetensors",
        "hf/checkpoint-10/optimizer.pt",
        "hf/checkpoint-10/rng_state.pth",
        "hf/training_args.bin",
        "timm/last.pth.tar",
        "lora/adapter_model.safetensors",
        "lora/adapter_config.json",
        "ray/trial/params.pkl",
        "ray/trial/checkpoint_000000/model.pt",
        "notes.txt",
    )
    assert found == [
        "hf/checkpoint-10",
        "lightning/version_0/checkpoints/epoch=2.ckpt",
        "lora",
        "ray/trial/checkpoint_000000/model.pt",
        "timm/last.pth.tar",
    ]


def test_names_of_all_tools_are_one():
    history = history_of(
        [
            {"epoch": 1, "step": 4, "train_loss_epoch": 1.5, "lr-SGD": 0.1, "test_acc": 1.0, "val/acc": 50},
            {"step": 4, "eval_loss": 2.0},
            {"global_step": 8, "learning_rate": 0.05, "loss": 1.0, "eval_top1": 75.0, "grad_norm": 3, "note": "x"},
            {"epoch": 3},
        ]
    )
    assert history == [
        {"epoch": 1, "step": 4, "train_loss": 1.5, "lr": 0.1, "val_accuracy": 0.5, "val_loss": 2.0},
        {"step": 8, "lr": 0.05, "train_loss": 1.0, "val_accuracy": 0.75},
    ]
    assert history_of([{"step": 10**400, "lr": 1}, {"step": -1, "loss": 10**400}, {"step": 2.5, "loss": 1}]) == [
        {"lr": 1},
        {"step": 2.5, "train_loss": 1},
    ]
    facts = facts_of(
        {"a": {"lr": 1, "bad": float("nan")}, "b": {"seed": 2}, "x": object(), "n": None, "huge": 10**400, "l": [1, 2]}
    )
    assert facts == {"a.lr": 1, "b.seed": 2, "l": [1, 2]}
    assert (fact(facts, "lr"), fact(facts, "gamma", "seed"), fact(facts | {"b.lr": 3}, "lr")) == (1, 2, None)


def beside(tmp_path: Path, content=None, name="model.pt", **files: str) -> RunFacts:
    for file, text in files.items():
        (tmp_path / file.replace("__", ".")).write_text(text)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    path = tmp_path / "checkpoints" / name
    said: list[str] = []
    run = read_beside(Checkpoint(path, (path,)), content or {}, said.append)
    assert not said
    return run


def test_secrets_stay_where_they_are():
    given = {
        "lr": 0.1,
        "hub_token": "hf_abc",
        "wandb": {"WANDB_API_KEY": "k", "entity": "me"},
        "password": "p",
        "client_secret": "s",
        "storage": "postgresql://me:pw@host/db",
        "pad_token": "[PAD]",
        "tokenizer": "bert",
        "max_tokens": 5,
        "sort_key": "length",
    }
    kept = {"lr", "wandb.entity", "pad_token", "tokenizer", "max_tokens", "sort_key"}
    assert facts_of(given).keys() == kept


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("trial_7.pt", 7),
        ("a/trial_7_epoch_3.pt", 7),
        ("trial-7/resnet18.pt", 7),
        ("run-7/checkpoint-10", 7),
        ("7.pt", 7),
        ("7/model.pt", 7),
        ("7_epoch_3.pt", None),
        ("trial_99/epoch3.pt", None),
    ],
)
def test_which_trial_a_name_says(name, number):
    trials = [SimpleNamespace(number=i, user_attrs={}) for i in range(20)]
    checkpoint = Checkpoint(Path("/x") / name, (Path("/x") / name,))
    if number is None:
        with pytest.raises(UserError, match=r"trial"):
            trial_of(checkpoint, trials)
    else:
        assert trial_of(checkpoint, trials).number == number


def test_lightning(tmp_path):
    content = {"global_step": 8, "hyper_parameters": {"lr": 0.5, "width": 3}}
    table = (
        "epoch,lr-SGD,step,train_loss,val_acc\n,0.5,0,,\n0,,3,1.5,\n0,,3,,0.25\n,0.5,4,,\n1,,7,1.0,0.5\n2,,11,9,0.9\n"
    )
    run = beside(tmp_path, content, hparams__yaml="lr: 0.4\nseed: 7\n", metrics__csv=table)
    assert (run.facts, run.seed, run.steps) == ({"lr": 0.4, "width": 3, "seed": 7}, 7, 8)
    assert [line.get("val_accuracy") for line in run.history] == [None, 0.25, None, 0.5]
    assert policy_of(run, None) == "FIX(k0=0.5)"


def test_huggingface(tmp_path):
    lines = [
        {"step": s, "epoch": s / 10, "learning_rate": 0.1 * (1 - (s - 1) / 40), "loss": 1 / s} for s in range(1, 41)
    ]
    state = {"global_step": 40, "max_steps": 40, "log_history": [*lines, {"step": 40, "eval_accuracy": 0.9}]}
    run = beside(tmp_path, trainer_state__json=json.dumps(state))
    assert run.steps == 40 and run.history[-1]["val_accuracy"] == 0.9
    policy = Policy.parse(policy_of(run, None)).bind(steps_per_epoch=1, total_steps=40)
    assert policy.function == "POLY"
    np.testing.assert_allclose(policy(np.arange(40)), [line["learning_rate"] for line in lines], atol=5e-4)


def test_timm(tmp_path):
    rates = [0.1, 0.08, 0.09, 0.02, 0.05]  # of no family
    table = "epoch,train_loss,eval_loss,eval_top1,lr\n" + "".join(
        f"{e},1,1,{50 + e},{lr}\n" for e, lr in enumerate(rates)
    )
    run = beside(tmp_path, args__yaml="lr: 0.1\nopt: sgd\nseed: 42\nsched: cosine\nmean: [0.5]\n", summary__csv=table)
    assert (run.optimizer, run.seed, run.facts["sched"]) == ("sgd", 42, "cosine")
    assert [line["val_accuracy"] for line in run.history] == [0.5, 0.51, 0.52, 0.53, 0.54]
    assert policy_of(run, None) == "POINTS(at=[0%,20%,40%,60%,80%], k=[0.1,0.08,0.09,0.02,0.05])"


def test_ray_tune(tmp_path):
    lines = [
        {"training_iteration": i, "val_acc": i / 10, "lr": 0.1, "time_total_s": 2.5 * i, "config": {"lr": 0.1}}
        for i in (1, 2)
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"cut'
    run = beside(tmp_path, params__json='{"lr": 0.1, "train_loop_config": {"seed": 3}}', result__json=text)
    assert (run.seed, run.facts["lr"]) == (3, 0.1)
    assert [(line["epoch"], line["val_accuracy"], line["seconds"]) for line in run.history] == [
        (1, 0.1, 2.5),
        (2, 0.2, 5.0),
    ]
    assert policy_of(run, None) == "FIX(k0=0.1)"


def test_weights_and_biases(tmp_path):
    config = "_wandb:\n  value: {cli_version: '1'}\nlr:\n  value: 0.25\nseed:\n  desc: null\n  value: 4\n"
    summary = json.dumps({"_step": 9, "val_acc": 0.5, "_wandb": {"runtime": 1}, "test_acc": 0.9})
    run = beside(tmp_path, config__yaml=config, **{"wandb-summary__json": summary})
    assert (run.facts, run.history) == ({"lr": 0.25, "seed": 4}, [{"step": 9, "val_accuracy": 0.5}])
    other = beside(tmp_path, config__yaml="lr: 0.1\n")  # of whom?
    assert "lr" not in other.facts


def test_an_offline_run_of_weights_and_biases(tmp_path):
    """Made by wandb 0.31: two lines, of steps 3 and 6."""
    log = tmp_path / "run-abc0.wandb"
    log.write_bytes((FIXTURES / "offline.wandb").read_bytes())
    run = beside(tmp_path)
    assert run.facts == {"lr": 0.1, "net.hidden": 8}
    assert [(line["step"], line["val_loss"]) for line in run.history] == [(3, 1.0), (6, 0.5)]
    assert 0 < run.history[0]["seconds"] <= run.history[1]["seconds"]
    config, lines = read_log(log)
    whole = log.read_bytes()
    for size in range(7, len(whole), 5):  # of a run that was killed, at any byte
        log.write_bytes(whole[:size])
        part, some = read_log(log)
        assert (part in ({}, config)) and lines[: len(some)] == some
    log.write_bytes(whole[:14] + bytes([255] * 20) + whole[34:])
    with pytest.raises(UserError, match="damaged"):
        read_log(log)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("COS(k0={lr}, l=100%)", "COS(k0=0.2, l=100%)"),
        ("STEP(k0={lr}, gamma={opt.gamma}, l=2e)", "STEP(k0=0.2, gamma=0.5, l=2e)"),
    ],
)
def test_policies_that_the_user_says(template, expected):
    run = RunFacts("r", {"learning_rate": 0.2, "opt.gamma": 0.5})
    assert policy_of(run, template) == expected


def test_a_policy_among_the_hyperparameters():
    assert policy_of(RunFacts("r", {"policy": "COS(0.1, l=50%)"}), None) == "COS(k0=0.1, l=50%)"
    assert policy_of(RunFacts("r", {"policy": "cosine(warm)", "lr": 0.1}), None) is None
    assert policy_of(RunFacts("r", {"lr": 0.1}, [{"step": 4, "lr": 0.1}]), None) is None  # one LR is no schedule
