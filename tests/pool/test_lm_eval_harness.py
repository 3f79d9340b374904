"""lm-evaluation-harness itself, on local files and with a random tiny model: its metrics are ours, row for row.

It is no dependency, not even of the tests: a Python that has it and this one's packages runs them, for example
``V/bin/python -m pytest -m slow tests/pool/test_lm_eval_harness.py`` after ``V/bin/pip install lm-eval``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lrensemble import import_lm_eval
from lrensemble.pool.samples import METRICS, read_samples

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.slow

WORDS = ["red", "blue", "green", "stone", "water", "fire", "bird", "äther", "wood", "iron", "glass", "sand"]


def questions(count: int) -> list[dict]:
    rng = random.Random(0)
    rows = []
    for i in range(count):
        choices = [" ".join(rng.sample(WORDS, rng.randint(1, 3))) + str(j) for j in range(2 + i % 4)]
        rows.append({"question": f"What is {i}?", "choices": choices, "answer": rng.randrange(len(choices))})
    return rows


def tiny_model():
    """A Llama of 16 channels with random weights over bytes, and its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))} | {"<eos>": 256}
    bytewise = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=257, initializer_range=0.5, **size)).eval()
    model.generation_config.pad_token_id = 256
    return model, tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory, monkeymodule) -> tuple[Path, dict, list[dict]]:
    """The file of samples, lm-eval's own means, and the questions."""
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM

    folder, rows = tmp_path_factory.mktemp("harness"), questions(24)
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ConfigurableTask(
        config={
            "task": "quiz",
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / "quiz.jsonl")},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in METRICS.values()
            ],
        }
    )
    model, tokenizer = tiny_model()
    result = evaluator.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu"),
        tasks=[task],
        log_samples=True,
        bootstrap_iters=0,
    )
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=tiny", None, None, False)
    collected = result.pop("samples")
    tracker.save_results_aggregated(results=result, samples=collected)
    for name, samples in collected.items():
        tracker.save_results_samples(task_name=name, samples=samples)
    [file] = (folder / "out").rglob("samples_*.jsonl")
    return file, result["results"]["quiz"], rows


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        yield patch


@pytest.mark.parametrize("normalise", METRICS)
def test_the_pool_has_the_harness_metrics(run, tmp_path, normalise):
    file, means, rows = run
    pool, [member] = import_lm_eval(tmp_path / "pool", [file], normalise=normalise)
    assert member.record.spec.model.name == "tiny"
    right = {}
    for split in ("val", "test"):
        found = np.asarray(pool.predictions(split))[0].argmax(1) == pool.labels(split)
        right |= dict(zip(pool.documents(split)[:, 0].tolist(), found.tolist(), strict=True))
    recorded = {line["doc_id"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert right == {i: line[METRICS[normalise]] == 1 for i, line in recorded.items()}
    assert len(right) == len(rows)
    assert np.mean(list(right.values())) == pytest.approx(means[f"{METRICS[normalise]},none"])


def test_its_likelihoods_are_those_of_the_model(run):
    """By hand: the sum of the log-probabilities of the tokens of a choice behind its question."""
    file, _, rows = run
    samples = read_samples(file, "sum")
    model, tokenizer = tiny_model()
    for i, row in enumerate(rows):
        for j, choice in enumerate(row["choices"]):
            question = tokenizer.encode(f"Question: {row['question']}\nAnswer:")
            whole = torch.tensor([question + tokenizer.encode(f" {choice}")])
            with torch.no_grad():
                log_p = model(whole).logits[0].log_softmax(-1)
            at = torch.arange(len(question), whole.shape[1])
            assert samples.scores[i, j] == pytest.approx(log_p[at - 1, whole[0, at]].sum().item(), rel=1e-4)
