"""What cached lower layers save: steps of training, and forward passes of a team of 8 adapters beside one model.

    scripts/measure_text [MODEL ROWS.jsonl LAST...]     a folder or package:NAME; how many layers are trained

Without arguments: a random Llama of 30 layers, of which the last 4, and 6, are trained.
"""

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

LAYERS, MEMBERS, ROUNDS = 30, 8, 5


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
        place, path, *last = sys.argv[1:] or [text, str(rows(folder / "train.jsonl")), "4", "6"]
        if place == text:
            random_llama(folder)
        kind = "choices" if "choices" in json.loads(Path(path).read_text().partition("\n")[0]) else "text"
        data = {"name": kind, "root": path, "tokenizer": place, "max_length": 64}
        form = TextForm.of(data)
        data |= {"rows": [64, 64, 64], "skip_broken": True}
        task = load_task(kind, **{name: value for name, value in data.items() if name != "name"})
        for top in map(int, last):
            config = load_config(
                {
                    "name": "measure",
                    "data": data,
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
            print(f"training step of 8 rows, last {top} layers: {steps}, {ratio:.2f} times as fast", flush=True)
            model = build_model(**spec.model.build, **task.facts).eval()
            learnt = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
            single, batched, swapped = (
                TextTeam(form, task, [Learnt(str(i), spec.model, model, learnt) for i in range(count)],
                         [1.0] * count, "soft", [1.0] * count)
                for count in (1, MEMBERS, MEMBERS)
            )  # fmt: skip
            swapped.apart.add(model)
            dataset = task.split("test")
            for count in (1, 8):
                batch = task.collate([dataset[i] for i in range(count)])
                teams = {"single": single, "batched": batched, "swapped": swapped}
                passes = seconds({name: lambda team=team, batch=batch: team(batch) for name, team in teams.items()})
                ratios = {name: round(passes[name] / passes["single"], 2) for name in ("batched", "swapped")}
                print(f"team of {MEMBERS} on {count} rows: {passes}, single forward passes: {ratios}", flush=True)


if __name__ == "__main__":
    main()
