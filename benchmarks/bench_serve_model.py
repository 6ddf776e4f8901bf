"""Time drafts of one checkpoint: asked one by one, sixteen at once, and with ten votes.

Measured on the same prompts in one process: Hugging Face's `generate` for one prompt after another, as a first service
would call it; our engine's unconstrained batches; lists held to the formulary, one after another, in batches, and with
ten samples a prompt that share one reading of it; and sixteen clients at once through the scheduler, with their
latencies. Every setting drafts the same admissions; rounds take turns, and medians are shown. Says in its last line, as
JSON, all of it. Not measured: HTTP, and what the votes are worth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from etl.cohort import read_samples, to_admission
from serving.decoding.decoder import Ask
from serving.recommender import Recommender, load_recommenders
from training.manifest import find_checkpoints

CLIENTS, VOTES = 16, 10
WANTED = {
    "times one by one, sixteen at once": (4.0, True),
    "times one vote's cost, ten votes": (3.0, False),
    "of unconstrained tokens a second": (0.9, True),
}
"""What is to be reached, and whether more is better."""


def main() -> None:
    """Run what the head of this file says."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=Path, default=Path("demo/runs"), help="the last checkpoint in it is asked")
    asked.add_argument("--data", type=Path, default=Path("demo/cohort"))
    asked.add_argument("--base", help="where the base lies now")
    asked.add_argument("--admissions", type=int, default=96)
    asked.add_argument("--repeat", type=int, default=3)
    args = asked.parse_args()
    [recommender] = load_recommenders(find_checkpoints(args.runs)[-1:], args.base)
    samples = read_samples(args.data, "test").head(args.admissions)
    encoded, _ = recommender._encode([to_admission(facts) for facts in samples.iter_rows(named=True)])
    settings: dict[str, Callable[[], dict[str, Any]]] = {
        "generate, one by one": lambda: one_by_one(recommender, encoded),
        "unconstrained, batches of 16": lambda: free(recommender, encoded),
        "constrained, one by one": lambda: held(recommender, encoded, together=1),
        "constrained, batches of 16": lambda: held(recommender, encoded, together=CLIENTS),
        "constrained, ten votes": lambda: held(recommender, encoded, together=CLIENTS, samples=VOTES),
        "sixteen clients": lambda: clients(recommender, encoded),
    }
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for _ in range(args.repeat):
        for name, run in settings.items():
            rounds[name].append(timed(run))
    found = {name: middle(results) for name, results in rounds.items()}
    print(f"{len(encoded)} admissions, prompts of {min(map(len, encoded))} to {max(map(len, encoded))} tokens")
    for name, one in found.items():
        more = "".join(f"  {key} {value:.3f}" for key, value in one.items() if key.startswith("p"))
        print(f"{name:30}{one['drafts'] / one['wall']:8.1f} drafts/s{one['tokens'] / one['wall']:9.0f} tokens/s{more}")
    ratios = compare(found)
    for name, value in ratios.items():
        limit, more = WANTED[name]
        print(f"  {value:.2f} {name} (wanted {'at least' if more else 'at most'} {limit})")
    setting = {"threads": torch.get_num_threads(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    print(json.dumps({"benchmark": "serve-model", **setting, "results": found, "ratios": ratios}))


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a setting; add its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return {**result, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every figure."""
    return {name: statistics.median(one[name] for one in results) for name in results[0]}


def compare(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return what is wanted, as it was found."""

    def rate(name: str, what: str = "drafts") -> float:
        return float(found[name][what] / found[name]["wall"])

    one, ten = rate("constrained, batches of 16"), rate("constrained, ten votes")
    return {
        "times one by one, sixteen at once": rate("sixteen clients") / rate("generate, one by one"),
        "times one vote's cost, ten votes": one / ten,
        "of unconstrained tokens a second": rate("constrained, batches of 16", "tokens")
        / rate("unconstrained, batches of 16", "tokens"),
    }


@torch.inference_mode()
def one_by_one(recommender: Recommender, encoded: list[list[int]]) -> dict[str, Any]:
    """Call Hugging Face's generate for each prompt alone."""
    engine, tokens = recommender.engine, 0
    with engine.turned_to(recommender.adapter):
        for ids in encoded:
            whole = engine._model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=recommender.manifest.max_answer_tokens,
                do_sample=False,
                eos_token_id=engine.end,
                pad_token_id=engine.tokenizer.pad_token_id,
            )
            tokens += whole.shape[1] - len(ids)
    return {"drafts": len(encoded), "tokens": tokens}


def free(recommender: Recommender, encoded: list[list[int]]) -> dict[str, Any]:
    """Generate in our batches, whatever the model writes."""
    room = recommender.manifest.max_answer_tokens
    answers = recommender.engine.generate(encoded, recommender.adapter, room, batch_size=CLIENTS)
    texts = [recommender.engine.tokenizer.encode(answer.text, add_special_tokens=False) for answer in answers]
    return {"drafts": len(encoded), "tokens": sum(len(ids) + 1 for ids in texts)}


def held(recommender: Recommender, encoded: list[list[int]], together: int, samples: int = 0) -> dict[str, Any]:
    """Draw lists of formulary drugs, so many prompts together."""
    asks = [Ask(ids, recommender.manifest.max_answer_tokens, samples=samples) for ids in encoded]
    engine, tokens = recommender.engine, 0
    parts = [asks] if together > 1 else [[ask] for ask in asks]
    for part in parts:
        lists = engine.draw(part, recommender.adapter, recommender.trie, rows=together * max(1, samples))
        tokens += sum(length(recommender, one.items) for drawn in lists for one in drawn)
    return {"drafts": len(encoded), "tokens": tokens}


def length(recommender: Recommender, items: tuple[int, ...]) -> int:
    """Return how many tokens a list has, its end included."""
    paths = recommender.trie.paths
    return sum(len(paths[item][place < len(items)]) - 1 for place, item in enumerate(items, 1))


def clients(recommender: Recommender, encoded: list[list[int]]) -> dict[str, Any]:
    """Have sixteen threads ask one prompt after another; return latencies too."""
    seconds: list[float] = []

    def ask(ids: list[int]) -> int:
        began = time.perf_counter()
        wanted = Ask(ids, recommender.manifest.max_answer_tokens)
        [drawn] = recommender.engine.scheduler.submit(wanted, recommender.adapter, recommender.trie).result()
        seconds.append(time.perf_counter() - began)
        return length(recommender, drawn.items)

    with ThreadPoolExecutor(CLIENTS) as pool:
        tokens = sum(pool.map(ask, encoded))
    cuts = statistics.quantiles(seconds, n=20)
    return {"drafts": len(encoded), "tokens": tokens, "p50_seconds": cuts[9], "p95_seconds": cuts[18]}


if __name__ == "__main__":
    main()
