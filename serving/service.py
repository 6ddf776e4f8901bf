"""What the routes work with, built once by `create_app` and kept on `app.state.service`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

if TYPE_CHECKING:
    from etl.drug_vocabulary import DrugVocabulary
    from serving.drafting.drafts import DraftService
    from serving.drafting.engines import Engines
    from serving.screening import Screener
    from serving.search import Search
    from serving.settings import Settings
    from serving.store.engine import Store


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service.

    Attributes:
        screener: the rules alone, for who records nothing.
        search: of ICD titles and drugs; says itself that it is not built yet.
        drafts: makes, queues, reviews and screens.
        vocabulary: what drugs' names mean.
    """

    settings: Settings
    store: Store
    engines: Engines
    screener: Screener
    search: Search
    drafts: DraftService
    vocabulary: DrugVocabulary

    @property
    def demo(self) -> bool:
        """Whether the models learnt from synthetic data, and are for a look only."""
        return self.engines.demo


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    return service_of(request)  # FastAPI runs what is not a coroutine in a thread


Ours = Annotated[Service, Depends(_service)]
"""A route's parameter that is the service."""
