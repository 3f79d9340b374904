"""What cached lower layers save: steps of training, and forward passes of a team of 8 adapters beside one model."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from lrensemble import load_config
from lrensemble.export.texts import Learnt, TextTeam
from lrensemble.models import build_model
from lrensemble.tasks import load_task
from lrensemble.tasks.task import Batch
from lrensemble.tasks.text import TextForm
from lrensemble.training.engine import Engine
from lrensemble.training.loop import Run

LAYERS, TOP, MEMBERS, ROUNDS = 30, 6, 8, 7


def random_llama(folder: Path) -> None:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=192, intermediate_size=512, num_hidden_layers=LAYERS, num_attention_heads=6,
        num_key_value_heads=6, pad_token_id=0,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def rows(path: Path) -> Path:
    lines = [
        {"question": f"What are {i} and 7 together", "choices": [str(i + 7), str(i + 300), str(i + 40)], "answer": 0}
        for i in range(200)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def endless(run: Run) -> Iterator[Batch]:
    while True:
        yield from run.batches()


def seconds(calls: dict[str, object]) -> dict[str, float]:
    """Median CPU seconds of every call, taking turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        place = sys.argv[1] if len(sys.argv) > 1 else text
        if place == text:
            random_llama(folder)
        task = load_task("choices", root=rows(folder / "train.jsonl"), tokenizer=place)
        for top in (TOP - 2, TOP):
            config = load_config(
                {
                    "name": "measure",
                    "data": {"name": "choices", "root": str(folder / "train.jsonl")},
                    "model": {"name": "hf", "weights": place, "layers": f"last:{top}", "lora": {"rank": 8}},
                    "optimizer": "AdamW",
                    "training": {"epochs": 100, "batch_size": 8},
                    "policies": "FIX(k0=0.001)",
                }
            )
            [spec], calls = config.specs(), {}
            for name, cache in (("cached", True), ("whole", False)):
                engine = Engine(cache_lower=cache)
                run = Run(spec, "measure", engine.rows(task, torch.device("cpu")), engine)
                batches = endless(run)
                calls[name] = lambda run=run, batches=batches: run.step(next(batches))
            steps = seconds(calls)
            ratio = steps["whole"] / steps["cached"]
            print(f"training step of 8 rows, last {top} of {LAYERS} layers: {steps}, {ratio:.2f} times as fast")
        form = TextForm.of(config.data.options | {"name": "choices"})
        model = build_model(**spec.model.build, **task.facts).eval()
        learnt = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        dataset = task.split("test")
        batch = task.collate([dataset[i] for i in range(8)])
        teams = {
            count: TextTeam(
                form, task, [Learnt(str(i), spec.model, model, learnt) for i in range(count)], [1.0] * count, "soft",
                [1.0] * count,
            )
            for count in (1, MEMBERS)
        }  # fmt: skip
        passes = seconds({str(count): lambda team=team: team(batch) for count, team in teams.items()})
        print(f"team of {MEMBERS} on 8 rows: {passes}, {passes[str(MEMBERS)] / passes['1']:.2f} single forward passes")


if __name__ == "__main__":
    main()
