"""From the options of `rxdraft serve` to its engines: which models, under which names, from where.

Light: nothing loads here. What is wrong with an option is said before a port is opened.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etl.errors import ConfigError
from serving.drafting.engines import Engines, Loading
from serving.loading import loader
from serving.vocabulary import Vocabulary

if TYPE_CHECKING:
    from serving.recommendation import Drafter
    from serving.remote.recommender import Server

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An OpenAI-compatible server that writes the lists of the checkpoints.

    Attributes:
        models: what it calls each of them, in the order of --model.
        affirmation: that admissions may leave this machine.
        timeout_seconds: of one request; tries: of one draft.
    """

    url: str
    models: tuple[str, ...]
    way: Literal["ids", "messages"] | None = None
    affirmation: Path | None = None
    timeout_seconds: float = 60
    tries: int = 2


@dataclass(frozen=True, slots=True)
class Fleet:
    """The models that a service is asked to serve; may be sent to another process.

    Attributes:
        models: NAME=MODEL or MODEL: a checkpoint's folder or baseline:NAME; the first is the default.
        base, data, k: as of `serving.loading.loader`.
        demo: they learnt from synthetic data.
    """

    models: tuple[str, ...]
    base: str | None = None
    data: Path | None = None
    k: int | None = None
    elsewhere: Elsewhere | None = None
    demo: bool = False

    def engines(self) -> Engines:
        """Return the engines, which load nothing before they are started.

        Raises:
            ConfigError, ContractError: a model is not there, or options do not belong together.
        """
        named = {name_of(model): _model(model) for model in self.models}
        if len(named) < len(self.models):
            raise ConfigError("two models have one name; name them: --model NAME=MODEL")
        baselines = {name: model for name, model in named.items() if _is_baseline(model)}
        checkpoints = {name: Path(model) for name, model in named.items() if name not in baselines}
        if self.data is not None and not baselines:
            raise ConfigError(
                f"--data is what a baseline learns from, and {' nor '.join(self.models)} is no baseline; leave it out"
            )
        loadings = [self._baseline(name, model, not checkpoints) for name, model in baselines.items()]
        if self.elsewhere is None:
            loadings += self._checkpoints(checkpoints)
        else:
            loadings += self._elsewhere(self.elsewhere, checkpoints)
        first = next(iter(named))
        return Engines(sorted(loadings, key=lambda one: first not in one.names), default=first, demo=self.demo)

    def _baseline(self, name: str, model: str, alone: bool) -> Loading:
        load, data = self._loader(model, alone), self.data
        return Loading((name,), lambda: [load()], None if data is None else lambda: _of_cohort(data))

    def _loader(self, model: str, alone: bool) -> Callable[[], Drafter]:
        """Return what fits a baseline; --base and --k are about checkpoints, and wrong where there are none."""
        return loader(Path(model), self.base if alone else None, self.data, self.k if alone else None)

    def _checkpoints(self, checkpoints: dict[str, Path]) -> list[Loading]:
        """Group checkpoints by their base, which they share."""
        from training.manifest import read_manifest

        groups: dict[str, dict[str, Path]] = defaultdict(dict)
        for name, path in checkpoints.items():
            groups[read_manifest(path).base_sha256][name] = path
        if self.base is not None and len(groups) > 1:
            raise ConfigError(f"--base is one, and the models were trained on {len(groups)} bases; leave it out")
        return [Loading(tuple(group), self._together(group), _of_checkpoint(group)) for group in groups.values()]

    def _together(self, group: dict[str, Path]) -> Callable[[], Sequence[Drafter]]:
        def load() -> Sequence[Drafter]:
            from serving.recommenders.lists import load_recommenders

            return load_recommenders(list(group.values()), self.base, self.k)

        return load

    def _elsewhere(self, elsewhere: Elsewhere, checkpoints: dict[str, Path]) -> list[Loading]:
        from serving.remote.recommender import checked_manifest

        if len(elsewhere.models) != len(checkpoints) or not checkpoints:
            raise ConfigError(
                f"{len(checkpoints)} checkpoints and {len(elsewhere.models)} --endpoint-model; "
                "give what the endpoint calls each --model, in the same order"
            )
        if self.k is not None:
            raise ConfigError("--k draws lists here, and --endpoint writes them; leave it out")
        loadings = []
        for (name, path), served_as in zip(checkpoints.items(), elsewhere.models, strict=True):
            checked_manifest(path)
            load = self._asked(path, _server(elsewhere, served_as, path))
            loadings.append(Loading((name,), load, _of_checkpoint({name: path})))
        return loadings

    def _asked(self, path: Path, server: Server) -> Callable[[], Sequence[Drafter]]:
        def load() -> Sequence[Drafter]:
            from serving.remote.recommender import RemoteRecommender

            return [RemoteRecommender(path, server, self.base)]

        return load


def name_of(model: str) -> str:
    """Return what clients call a model.

    >>> name_of("best=runs/a/rank-32/step-000429"), name_of("runs/a/rank-32/step-000429"), name_of("baseline:knn")
    ('best', 'a-rank-32-step-000429', 'baseline:knn')
    """
    if named := _NAMED.fullmatch(model):
        return named[1]
    return model if _is_baseline(model) else "-".join(Path(model).absolute().parts[-3:]).strip("/")


def _model(model: str) -> str:
    named = _NAMED.fullmatch(model)
    return named[2] if named else model


def _is_baseline(model: str) -> bool:
    from serving.baselines.service import PREFIX

    return model.startswith(PREFIX)


def _server(elsewhere: Elsewhere, served_as: str, checkpoint: Path) -> Server:
    from etl.outside.ask import Limits
    from etl.outside.firewall import Provenance, let_pass
    from serving.remote.recommender import Server

    # Whoever asks, it is about patients. What stands for their data in the affirmation is the model that reads them.
    passage = let_pass(Provenance.CREDENTIALED, elsewhere.url, checkpoint / "manifest.json", elsewhere.affirmation)
    limits = Limits(tries=elsewhere.tries)
    return Server(passage, served_as, elsewhere.way, limits, elsewhere.timeout_seconds)


def _of_checkpoint(group: dict[str, Path]) -> Callable[[], Vocabulary]:
    def read() -> Vocabulary:
        from serving.vocabulary import read_vocabulary
        from training.manifest import read_manifest

        first = next(iter(group.values()))
        return read_vocabulary(first, read_manifest(first))

    return read


def _of_cohort(cohort: Path) -> Vocabulary:
    from etl.cohort import read_cohort
    from serving.vocabulary import vocabulary_of

    return vocabulary_of(cohort, read_cohort(cohort)["settings"])
