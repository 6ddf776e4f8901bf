"""Time drafts of one model: asked one by one, sixteen at once, and with ten votes.

Measured on the same prompts in one process: Hugging Face's `generate` for one prompt after another, as a first service
would call it; our engine's unconstrained batches; lists held to the formulary, one after another, in batches, and with
ten samples a prompt that share one reading of it; and sixteen clients at once through the scheduler, with their
latencies. Beside them sixteen clients of `transformers serve`, with and without its continuous batching: a process of
its own with a merged model, for it takes no adapter, asked over HTTP. Every setting drafts the same admissions; rounds
take turns, ratios are of one round, and medians are shown. Says in its last line, as JSON, all of it.

`--labels-runs` adds drafts of a checkpoint that learned labels. `--shape 8b` puts random weights of Llama-3.1-8B's
shape in the checkpoint's place, on CUDA; `--toy` a small shape anywhere, to see that it runs. Rates of random weights
are to be read in tokens, for such lists go on until they must end. Not measured: HTTP around ours, and what votes are
worth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
from engines import drafting, hf_serve, random_llama
from engines.drafting import Job

from serving.decoding.decoder import Ask

CLIENTS, VOTES = 16, 10
ONE_BY_ONE, FREE, BATCHES, TEN, TOGETHER = (
    "generate, one by one", "unconstrained, batches of 16", "constrained, batches of 16", "constrained, ten votes",
    "sixteen clients",
)  # fmt: skip
SHAPES = {"8b": random_llama.LLAMA_8B, "toy": random_llama.TOY}
Result = dict[str, float]
Rounds = dict[str, list[Result]]


def main() -> int:
    """Run what the head of this file says."""
    options = read_options()
    if options.shape == "8b" and not torch.cuda.is_available():
        print("--shape 8b wants an NVIDIA GPU and there is none here; --toy runs anywhere", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    if options.shape:
        job = drafting.of_shape(SHAPES[options.shape], options.admissions)
    else:
        job = drafting.of_checkpoint(options.runs, options.data, options.base, options.admissions)
    load = os.getloadavg()
    with ExitStack() as servers:
        rounds = run_rounds({**settings(job), **others(job, options, servers)}, options.repeat)
    found = {name: middle(results) for name, results in rounds.items()}
    ratios = compare(rounds, "tokens" if options.shape else "drafts")
    print(
        f"{len(job.encoded)} admissions, prompts of {min(map(len, job.encoded))} to {max(map(len, job.encoded))} tokens"
    )
    show(found, ratios)
    where = {"threads": torch.get_num_threads(), "cpus": os.cpu_count(), "load": [load, os.getloadavg()]}
    what = {"shape": options.shape, "device": str(job.engine.causal.device), "admissions": len(job.encoded)}
    print(json.dumps({"benchmark": "serve-model", **where, **what, "results": found, "ratios": ratios}))
    return 0


def settings(job: Job) -> dict[str, Callable[[], Result]]:
    """Return what is timed of one model in this process."""
    return {
        ONE_BY_ONE: partial(one_by_one, job),
        FREE: partial(free, job),
        "constrained, one by one": partial(held, job, together=1),
        BATCHES: partial(held, job, together=CLIENTS),
        TEN: partial(held, job, together=CLIENTS, samples=VOTES),
        TOGETHER: partial(clients, job.encoded, partial(draw_through_scheduler, job)),
    }


def others(job: Job, options: argparse.Namespace, servers: ExitStack) -> dict[str, Callable[[], Result]]:
    """Return what was asked for beside it; servers run until the stack is left."""
    found: dict[str, Callable[[], Result]] = {}
    if options.labels_runs:
        labels = drafting.of_checkpoint(options.labels_runs, options.data, options.base, options.admissions)
        found["labels, batches of 16"] = partial(label, labels)
    if not (options.quick or options.shape):
        folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="bench-serve-")))
        job.save_merged(folder)
        client = servers.enter_context(httpx.Client(timeout=hf_serve.ANSWER_SECONDS))
        for name, arguments in hf_serve.MODES.items():
            address = servers.enter_context(hf_serve.serving(folder, arguments, torch.get_num_threads()))
            ask = partial(hf_serve.ask, client, address, folder, most_tokens=job.most_tokens)
            ask(job.questions[0])  # it compiles nothing and loads nothing anew from here on
            found[name] = partial(clients, job.questions, ask)
    return found


def run_rounds(timed: dict[str, Callable[[], Result]], repeat: int) -> Rounds:
    """Time every setting once a round, in reversed order every second one."""
    rounds: Rounds = {name: [] for name in timed}
    for number in range(repeat):
        for name in list(timed)[:: -1 if number % 2 else 1]:
            wall, cpu = time.perf_counter(), time.process_time()
            result = timed[name]()
            seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            rounds[name].append({**result, **seconds})
            print(f"  {name:<42}{seconds['wall']:8.1f} s", file=sys.stderr)
    return rounds


def middle(results: list[Result]) -> Result:
    """Return the median of every figure."""
    return {name: statistics.median(one[name] for one in results) for name in results[0]}


def compare(rounds: Rounds, what: str) -> dict[str, dict[str, Any]]:
    """Return what is wanted as it was found: the median over rounds of a ratio within one round.

    Args:
        rounds: results of every setting.
        what: is counted of answers, drafts or tokens.
    """

    def ratios(name: str, over: str, what: str, clock: str) -> list[float]:
        pairs = zip(rounds[name], rounds[over], strict=True)
        return [one[what] / one[clock] / (other[what] / other[clock]) for one, other in pairs]

    wanted = {
        "times one by one, sixteen at once": (TOGETHER, ONE_BY_ONE, what, 4.0, 1),
        "times one vote's cost, ten votes": (BATCHES, TEN, "drafts", 3.0, -1),
        "of unconstrained tokens a second": (BATCHES, FREE, "tokens", 0.9, 1),
        **{f"times {name}": (TOGETHER, name, what, 1.0, 1) for name in hf_serve.MODES if name in rounds},
    }
    found: dict[str, dict[str, Any]] = {}
    for name, (one, other, what_, limit, sign) in wanted.items():
        wall, cpu = (ratios(one, other, what_, clock) for clock in ("wall", "cpu"))
        middle = statistics.median(wall)
        found[name] = {"is": middle, "wanted": limit, "met": sign * (middle - limit) >= 0, "rounds": wall}
        if other not in hf_serve.MODES:  # theirs is another process's
            found[name]["cpu"] = statistics.median(cpu)
    return found


def show(found: dict[str, Result], ratios: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    for name, one in found.items():
        more = "".join(f"  {key[:3]} {value:.3f} s" for key, value in one.items() if key.startswith("p"))
        print(f"{name:42}{one['drafts'] / one['wall']:8.1f} drafts/s{one['tokens'] / one['wall']:9.0f} tokens/s{more}")
    for name, one in ratios.items():
        cpu = f", {one['cpu']:.2f} in CPU seconds" if "cpu" in one else ""
        print(f"{'met' if one['met'] else 'missed'}: {one['is']:.2f} {name} (wanted {one['wanted']}{cpu})")


@torch.inference_mode()
def one_by_one(job: Job) -> Result:
    """Call Hugging Face's generate for each prompt alone."""
    engine, tokens = job.engine, 0
    with engine.turned_to(job.adapter):
        for ids in job.encoded:
            input_ids = torch.tensor([ids], device=engine.causal.device)
            whole = engine._model.generate(
                input_ids=input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=job.most_tokens,
                do_sample=False,
                eos_token_id=engine.end,
                pad_token_id=engine.tokenizer.pad_token_id,
            )
            tokens += whole.shape[1] - len(ids)
    return {"drafts": len(job.encoded), "tokens": tokens}


def free(job: Job) -> Result:
    """Generate in our batches, whatever the model writes."""
    answers = job.engine.generate(job.encoded, job.adapter, job.most_tokens, batch_size=CLIENTS)
    encode = partial(job.engine.tokenizer.encode, add_special_tokens=False)
    tokens = sum(job.most_tokens if answer.truncated else len(encode(answer.text)) + 1 for answer in answers)
    return {"drafts": len(answers), "tokens": tokens}


def held(job: Job, together: int, samples: int = 0) -> Result:
    """Draw lists of formulary drugs, so many prompts together."""
    asks, tokens = [Ask(ids, job.most_tokens, samples=samples) for ids in job.encoded], 0
    for part in [asks] if together > 1 else [[ask] for ask in asks]:
        lists = job.engine.draw(part, job.adapter, job.trie, rows=together * max(1, samples))
        tokens += sum(length(job, one.items) for drawn in lists for one in drawn)
    return {"drafts": len(asks), "tokens": tokens}


def label(job: Job) -> Result:
    """Read every label's logit in batches; an answer has no tokens."""
    for begin in range(0, len(job.encoded), CLIENTS):
        job.engine.label_logits(job.encoded[begin : begin + CLIENTS], job.adapter)
    return {"drafts": len(job.encoded), "tokens": 0}


def draw_through_scheduler(job: Job, ids: list[int]) -> int:
    """Ask the scheduler for one list and wait; return how many tokens it has."""
    [drawn] = job.engine.scheduler.submit(Ask(ids, job.most_tokens), job.adapter, job.trie).result()
    return length(job, drawn.items)


def length(job: Job, items: tuple[int, ...]) -> int:
    """Return how many tokens a list has, its end included."""
    paths = job.trie.paths
    return sum(len(paths[item][place < len(items)]) - 1 for place, item in enumerate(items, 1))


def clients(questions: Sequence[Any], ask: Callable[[Any], int]) -> Result:
    """Have sixteen threads ask one question after another; return latencies too."""
    seconds: list[float] = []

    def timed(question: Any) -> int:
        began = time.perf_counter()
        tokens = ask(question)
        seconds.append(time.perf_counter() - began)
        return tokens

    with ThreadPoolExecutor(CLIENTS) as pool:
        tokens = sum(pool.map(timed, questions))
    cuts = statistics.quantiles(seconds, n=20)
    return {"drafts": len(questions), "tokens": tokens, "p50_seconds": cuts[9], "p95_seconds": cuts[18]}


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("demo/runs/lists"), help="the last checkpoint in it is asked")
    parser.add_argument("--labels-runs", type=Path, help="of checkpoints that learned labels; the last is asked too")
    parser.add_argument("--data", type=Path, default=Path("demo/cohort"))
    parser.add_argument("--base", help="where the base lies now")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead of a checkpoint")
    parser.add_argument("--toy", dest="shape", action="store_const", const="toy", help="the same as --shape toy")
    parser.add_argument("--admissions", type=int, default=96)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="24 admissions, one round, no other server: does it run")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU (default: %(default)s)")
    options = parser.parse_args()
    if options.quick:
        options.admissions, options.repeat = 24, 1
    return options


if __name__ == "__main__":
    sys.exit(main())
