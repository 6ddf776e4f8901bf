"""What a run is asked to do, and what follows from it alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from etl.augment.growth import Growth, Plan
from etl.augment.prompt import read_prompt
from etl.augment.seeds import Seeds, read_seeds
from etl.outside.ask import Limits, Price
from etl.outside.budget import read_prices
from etl.outside.endpoint import Decoding
from etl.token_counter import token_counter, tokenizer_sha256


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do.

    Attributes:
        out: the corpus' folder.
        model: as its server names it; endpoint: the server's URL.
        seeds: a file; cohort: a folder; neither: the shipped seeds.
        open_data: the file is under no terms.
        ledger: None: OUT.ledger.sqlite, beside the corpus.
        tokenizer: folder of the base that will be trained; None: tokens are estimated.
        max_usd: what the run may cost.
        api: "chat" or "responses".
        overwrite: replace what stands at `out`.
    """

    out: Path
    model: str
    endpoint: str
    seeds: Path | None = None
    cohort: Path | None = None
    open_data: bool = False
    plan: Plan = field(default_factory=Plan)
    decoding: Decoding = field(default_factory=lambda: Decoding(0.7, 2048))
    limits: Limits = field(default_factory=Limits)
    timeout_seconds: float = 300
    ledger: Path | None = None
    tokenizer: Path | None = None
    affirmation: Path | None = None
    prices: Path | None = None
    max_usd: float | None = None
    api: str = "chat"
    overwrite: bool = False

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        return self.ledger or self.out.with_name(f"{self.out.name}.ledger.sqlite")

    @property
    def price(self) -> Price | None:
        """Of the model; None: unknown."""
        return read_prices(self.prices).get(self.model) if self.prices else None

    def read_seeds(self) -> Seeds:
        """Read the seeds; see `seeds.read_seeds`."""
        return read_seeds(self.seeds, self.cohort, open_data=self.open_data, seed=self.plan.seed)

    def growth(self, seeds: Seeds) -> Growth:
        """Return a growth of nothing but seeds."""
        return Growth(seeds, self.plan, read_prompt(), token_counter(self.tokenizer))

    def asked(self, seeds: Seeds) -> dict[str, Any]:
        """Return what decides the tasks: where a corpus of the same stands, there is nothing to do."""
        prompt = read_prompt()
        return {
            "decoding": self.decoding.described(),
            "model": self.model,
            "plan": asdict(self.plan),
            "prompt": {"name": prompt.name, "sha256": prompt.digest},
            "rxdraft": version("rxdraft"),
            "seeds_sha256": seeds.data_sha256,
            "tokenizer_sha256": self.tokenizer and tokenizer_sha256(self.tokenizer),
        }
