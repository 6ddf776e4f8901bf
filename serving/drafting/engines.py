"""The models of a service by their names: loaded in the background, asked through a circuit breaker each.

It knows no store and no route. In-process checkpoints, baselines and engines elsewhere look alike from here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from etl.domain import Admission
from etl.errors import ConfigError, RxdraftError
from etl.prompts import TooLongError
from serving.drafting.breaker import Breaker, EngineDownError
from serving.operation import metrics
from serving.operation.logs import event
from serving.recommendation import BusyError, Drafter, LateError, NoReplyError, Recommendation
from serving.vocabulary import Vocabulary

ModelState = Literal["loading", "ready", "failed", "open"]


class UnknownModelError(RxdraftError):
    """No model is served under the name that was asked for."""


class ModelNotReadyError(RxdraftError):
    """The model is still loading, or could not be loaded."""


@dataclass(frozen=True, slots=True)
class Loading:
    """Models that are loaded together, since they share a base.

    Attributes:
        names: as clients ask for them.
        load: called once, in a thread; gives a drafter for each name.
        vocabulary: reads what they were trained with, for a search that does not wait for them; None: they tell.
    """

    names: tuple[str, ...]
    load: Callable[[], Sequence[Drafter]]
    vocabulary: Callable[[], Vocabulary] | None = None


@dataclass(slots=True)
class Engine:
    """One model; `drafter` is None until it is loaded."""

    name: str
    drafter: Drafter | None = None
    failed: bool = False
    breaker: Breaker = field(default_factory=Breaker)
    told: ModelState | None = None

    @property
    def state(self) -> ModelState:
        """What GET /v1/models says."""
        if self.drafter is None:
            return "failed" if self.failed else "loading"
        return "open" if self.breaker.is_open else "ready"

    def tell(self) -> None:
        """Put a state that is new into the metrics."""
        if self.told != (state := self.state):
            self.told = state
            metrics.set_engine_state(self.name, state)


class Engines:
    """All models; of the first loading is the default."""

    def __init__(
        self,
        loadings: Iterable[Loading],
        *,
        default: str | None = None,
        breaker: Callable[[], Breaker] = Breaker,
        demo: bool = False,
    ) -> None:
        """Load nothing yet.

        Args:
            loadings: at least one model in all.
            default: name of the default model; None: the first.
            breaker: makes one for each model.
            demo: they learnt from synthetic data, for a look.
        """
        self.loadings = tuple(loadings)
        names = [name for loading in self.loadings for name in loading.names]
        if len(set(names)) < len(names) or not names:
            raise ConfigError(
                f"models called {', '.join(names) or 'nothing'}; wanted distinct names: --model NAME=MODEL"
            )
        self._engines = {name: Engine(name, breaker=breaker()) for name in names}
        self.default, self.demo = default or names[0], demo
        self.error: Exception | None = None

    def start(self, loaded: Callable[[], None] = lambda: None, failed: Callable[[], None] = lambda: None) -> None:
        """Load all in a thread.

        Args:
            loaded: called in that thread once all are; failed: instead, if one cannot be; `error` then says why.
        """
        # A daemon, so that a process told to stop while it loads does stop.
        threading.Thread(target=self.load, args=(loaded, failed), name="rxdraft-loading", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether the default model is loaded; an open circuit is no reason to send everybody elsewhere."""
        return self._engines[self.default].drafter is not None

    @property
    def titles(self) -> Mapping[tuple[str, int], str]:
        """Of each (icd_code, icd_version) that the default model knows; none until it is loaded."""
        drafter = self._engines[self.default].drafter
        return drafter.vocabulary.titles if drafter else {}

    def all(self) -> list[Engine]:
        """Return the models, the default first."""
        return sorted(self._engines.values(), key=lambda engine: engine.name != self.default)

    def find(self, name: str | None) -> Engine:
        """Return a model, loaded or not; None: the default. Raises UnknownModelError."""
        engine = self._engines.get(self.default if name is None else name)
        if engine is None:
            raise UnknownModelError("no such model is served here; GET /v1/models names those that are")
        return engine

    def drafter(self, name: str | None = None) -> Drafter:
        """Return a loaded model; None: the default.

        Raises:
            UnknownModelError, ModelNotReadyError: there is none of that name, or it is not loaded.
        """
        drafter = self.find(name).drafter
        if drafter is None:
            raise ModelNotReadyError("the model is not loaded yet; ask again in a moment")
        return drafter

    async def draft(self, name: str | None, admission: Admission, seconds: float) -> Recommendation:
        """Draft a list; cancelling frees what it took.

        Args:
            name: of the model; None: the default.
            admission: with a diagnosis.
            seconds: until `LateError`.

        Raises:
            UnknownModelError, ModelNotReadyError: as of `drafter`.
            BusyError, LateError, TooLongError: as of `Drafter.draft`.
            EngineDownError: it gave no answer, or has not for a while and is not asked now.
        """
        engine, drafter = self.find(name), self.drafter(name)
        try:
            return await self._guarded(engine, drafter, admission, seconds)
        finally:
            engine.tell()

    async def _guarded(self, engine: Engine, drafter: Drafter, admission: Admission, seconds: float) -> Recommendation:
        with engine.breaker.guard() as outcome:
            try:
                async with asyncio.timeout(seconds):
                    return await drafter.draft(admission, seconds)
            except TimeoutError:
                outcome.failed = elsewhere(drafter)
                raise LateError("the draft was not done by its deadline; ask again, or allow more time") from None
            except LateError:
                outcome.failed = elsewhere(drafter)  # here it means that many ask, there that nobody answers
                raise
            except NoReplyError:
                outcome.failed = True
                raise EngineDownError("the engine gives no answer; ask again later") from None
            except (BusyError, TooLongError):
                raise
            except RxdraftError:
                outcome.failed = True
                raise EngineDownError("the engine refuses to answer; its operator has to look") from None
            except Exception:
                outcome.failed = True
                raise

    def load(self, loaded: Callable[[], None] = lambda: None, failed: Callable[[], None] = lambda: None) -> None:
        """Load all now; arguments as of `start`."""
        for engine in self._engines.values():
            engine.tell()
        for loading in self.loadings:
            try:
                drafters = loading.load()
            except Exception as error:
                self.error = error
                event("model_failed", level="error", exc_type=type(error).__name__)
                for name in loading.names:
                    self._engines[name].failed = True
                    self._engines[name].tell()
                failed()
                return
            for name, drafter in zip(loading.names, drafters, strict=True):
                self._engines[name].drafter = drafter
                self._engines[name].tell()
                event("model_ready", model=name)
        loaded()


def elsewhere(drafter: Any) -> bool:
    """Tell whether another program answers for a drafter."""
    return hasattr(drafter, "server")


def of_one(load: Callable[[], Drafter], name: str = "default") -> Engines:
    """Return the engines of a service with one model."""
    return Engines([Loading((name,), lambda: [load()])])
