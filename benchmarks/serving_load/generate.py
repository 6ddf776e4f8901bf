"""The process that makes the load: `python generate.py PLAN.json`; it prints what was seen as one line of JSON.

PLAN: url, public_url, seconds, clients, ehrs, keys (texts), admissions (bodies), ehr_key (path or null),
only ("drafts" or null), patience_seconds, until_file (its being there ends the load), book (where to write what
was promised).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from serving_load.figures import summary
from serving_load.people import Book, Caller, Clinician
from serving_load.wire import Wire


async def load(plan: dict[str, Any]) -> dict[str, Any]:
    """Let everybody work; return the summary and write the book."""
    book, began, used, over = Book(), time.monotonic(), _cpu_seconds(), asyncio.Event()
    watch = asyncio.create_task(_watch(plan, began + plan["seconds"], over))

    def caller(token: Callable[[str], str]) -> Caller:
        return Caller(Wire(plan["url"]), token, book, over.is_set, plan.get("patience_seconds", 60))

    def holder(place: int) -> Caller:
        return caller(lambda path: str(plan["keys"][place % len(plan["keys"])]))

    people = [Clinician(holder(place), plan["admissions"], plan.get("only")) for place in range(plan["clients"])]
    await asyncio.gather(*(person.work() for person in people), *_ehrs(plan, caller))
    told = summary(book, time.monotonic() - began)
    told["load_cpu_seconds"], told["load_lag_seconds"] = round(_cpu_seconds() - used, 2), round(await watch, 3)
    await asyncio.to_thread(_write, Path(plan["book"]), book)
    return told


def _ehrs(plan: dict[str, Any], caller: Callable[[Callable[[str], str]], Caller]) -> list[Coroutine[Any, Any, None]]:
    if not plan.get("ehr_key") or not plan.get("ehrs"):
        return []
    from serving_load.ehr import Ehr, signer

    sign = signer(Path(plan["ehr_key"]).read_bytes(), plan["public_url"])
    return [Ehr(caller(sign)).work() for _ in range(plan["ehrs"])]


async def _watch(plan: dict[str, Any], until: float, over: asyncio.Event) -> float:
    """Say when it is over; return how late this loop was at most: where that is much, the figures are its own."""
    longest, enough = 0.0, Path(plan.get("until_file") or "")
    while time.monotonic() < until and not enough.is_file():
        began = time.monotonic()
        await asyncio.sleep(0.05)
        longest = max(longest, time.monotonic() - began - 0.05)
    over.set()
    return longest


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _write(path: Path, book: Book) -> None:
    lines = [{"kind": "promised", **one} for one in book.promised] + [{"kind": "unsure", **one} for one in book.unsure]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(json.loads(Path(sys.argv[1]).read_text())))))
