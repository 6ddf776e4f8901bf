"""The pool of tasks as it grows, round by round; it knows no network.

Requests of one round show tasks of the pool as it stood before the round, and answers are taken in the order of the
requests: the same answers grow the same pool, however many are asked at once and however often a run is killed.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from etl.augment.filters import Filter, filters
from etl.augment.novelty import Instructions
from etl.augment.prompt import Prompt, Request, Task, read_tasks
from etl.augment.seeds import Seeds
from etl.dialogues import MAX_LENGTH
from etl.outside.ask import count_tokens
from etl.outside.endpoint import Reply
from etl.token_counter import Count

ROUND_REQUESTS = 32
"""Requests of the largest round."""
BARREN_REQUESTS = 16
"""Requests one after another without a new task that end the growth, at the end of their round."""

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to grow, and how; all of it decides the pool.

    Attributes:
        wanted: new tasks.
        per_request: new tasks asked for at once.
        examples: tasks shown; of them so many `grown` as there are, up to that.
        max_length: tokens of the longest conversation.
        seed: of the draw of examples.
    """

    wanted: int = 100
    per_request: int = 4
    examples: int = 8
    grown: int = 2
    max_length: int = MAX_LENGTH
    seed: int = 0


class Growth:
    """Grows seeds into new tasks.

    Attributes:
        tasks: kept ones, in order.
        answers: how many there were of each state.
        fates: of every task that was written: kept, or why not.
    """

    def __init__(self, seeds: Seeds, plan: Plan, prompt: Prompt, count: Count) -> None:
        """Begin with nothing but seeds; `count` tells a conversation's tokens."""
        self._seeds, self._plan, self._prompt = seeds, plan, prompt
        self._filters: dict[str, Filter] = filters(seeds.tasks, seeds.system, count, plan.max_length)
        self._known = Instructions()
        for task in seeds.tasks:
            self._known.add(task.instruction)
        answers = [{"role": "assistant", "content": str(task.described())} for task in seeds.tasks]
        self._expected_tokens = math.ceil(plan.per_request * count_tokens(answers) / len(answers))
        self._asked = self._barren = 0
        self.tasks: list[Task] = []
        self.answers: Counter[str] = Counter()
        self.fates: Counter[str] = Counter()

    @property
    def missing(self) -> int:
        """How many requests it takes if every task is kept."""
        return math.ceil((self._plan.wanted - len(self.tasks)) / self._plan.per_request)

    @property
    def dry(self) -> bool:
        """Whether nothing new has come for so long that the growth ends."""
        return self._barren >= BARREN_REQUESTS

    def next_round(self) -> list[Request]:
        """Return the requests of the next round; none where there are tasks enough, or no new ones come."""
        if self.dry:
            return []
        return [self._request(self._asked + place) for place in range(min(self.missing, ROUND_REQUESTS))]

    def _request(self, number: int) -> Request:
        draw = random.Random(f"{self._plan.seed}:{number}")
        grown = draw.sample(self.tasks, min(self._plan.grown, self._plan.examples, len(self.tasks)))
        seeds = self._seeds.tasks
        shown = grown + draw.sample(seeds, min(self._plan.examples - len(grown), len(seeds)))
        draw.shuffle(shown)
        messages = self._prompt.ask(shown, self._plan.per_request, self._seeds.system)
        return Request(self._prompt, messages, number, self._seeds.provenance.value, self._expected_tokens)

    def take(self, replies: Sequence[Reply]) -> None:
        """Take in the answers of a round, in the order of its requests."""
        before = len(self.tasks)
        for reply in replies:
            state, tasks = read_tasks(reply)
            self.answers[state] += 1
            for task in tasks:
                self.fates[self._take(task)] += 1
        self._asked += len(replies)
        self._barren = 0 if len(self.tasks) > before else self._barren + len(replies)

    def _take(self, written: Task | None) -> str:
        """Keep a task if it is of use and new; return its fate."""
        if written is None:
            return "not of the form asked for"
        task = written.cleaned()
        for reason, applies in self._filters.items():
            if applies(task):
                return reason
        if self._known.has_like(task.instruction):
            return "nearly a seed or an earlier task"
        if len(self.tasks) >= self._plan.wanted:
            return "more than wanted"
        self._known.add(task.instruction)
        self.tasks.append(task)
        return KEPT
