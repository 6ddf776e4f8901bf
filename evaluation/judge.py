"""Ask a language model how many drugs of a draft are appropriate. A number, not yet a measurement.

The reference's protocol: the whole list of one admission, a count of appropriate and one of inappropriate drugs,
the share averaged over admissions. Without decoys nobody knows what such a judge lets pass; the table says so.

The endpoint sees patient facts. One that is not on this machine is refused unless the caller says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from etl.cohort import to_admission
from etl.errors import ConfigError
from etl.progress import Told
from etl.prompts import render_prompt

VERSION = "1"
"""Of the text below; verdicts of different versions are never averaged."""

_SYSTEM = (
    "You review draft prescription lists. For the patient described, count how many of the listed drugs are "
    "appropriate and how many are inappropriate. Every drug counts once."
)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Verdict(BaseModel):
    """The judge's answer for one list."""

    model_config = ConfigDict(extra="forbid")

    appropriate: int = Field(ge=0)
    inappropriate: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A cell's verdicts, averaged.

    Attributes:
        appropriateness: mean share of appropriate drugs over judged admissions; None if none was.
        judged: admissions with a verdict that counts every drug.
        unscored: admissions whose verdict did not; never counted as appropriate.
        no_list: admissions without a drug to judge.
    """

    appropriateness: float | None
    judged: int
    unscored: int
    no_list: int


class Judge:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, base_url: str, model: str, *, allow_remote: bool = False, api_key: str | None = None) -> None:
        """Connect to nothing yet.

        Args:
            base_url: such as http://127.0.0.1:8001/v1.
            model: the endpoint's name for it.
            allow_remote: patient facts may leave this machine.
            api_key: where None, OPENAI_API_KEY of the environment; a local endpoint is sent no key.

        Raises:
            ConfigError: the endpoint is elsewhere and that was not allowed or no key is set, or openai is not
                installed.
        """
        host = urlsplit(base_url).hostname
        if host not in _LOOPBACK and not allow_remote:
            raise ConfigError(
                f"judge {host} is not on this machine and would be sent patient facts; "
                "use a local endpoint, or say --judge-may-leave-machine if your data-use terms allow it"
            )
        try:
            import openai
        except ImportError:
            raise ConfigError("--judge needs the openai package: pip install 'rxdraft[judge]'") from None
        self._openai = openai
        self.model = model
        here = host in _LOOPBACK
        try:
            self._client = openai.OpenAI(
                base_url=base_url,
                api_key=api_key or ("none" if here else None),
                max_retries=3,
                timeout=120,
                # A proxy of the environment is another machine.
                http_client=openai.DefaultHttpx2Client(trust_env=False) if here else None,
            )
        except openai.OpenAIError:
            raise ConfigError(f"judge {host} needs a key; set OPENAI_API_KEY") from None

    def ask(self, facts: dict[str, Any], drugs: list[str]) -> Verdict | None:
        """Return the verdict on one list, or None where the answer does not count every drug once.

        Raises:
            ConfigError: the endpoint cannot be reached or refuses; its own words are not repeated.
        """
        question = "\n".join([render_prompt(to_admission(facts))[1]["content"], "Draft:", *drugs])
        try:
            answer = self._client.chat.completions.parse(
                model=self.model,
                messages=[{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}],
                response_format=Verdict,
                temperature=0,
                store=False,
            )
        except (self._openai.LengthFinishReasonError, self._openai.ContentFilterFinishReasonError):
            return None
        except self._openai.APIError as error:
            status = getattr(error, "status_code", None)
            raise ConfigError(f"the judge did not answer ({status or type(error).__name__}); check --judge") from None
        except ValueError:  # no JSON, or not a verdict
            return None
        except AttributeError:  # the client parses whatever came with status 200
            raise ConfigError("the judge's answer is no chat completion; check --judge") from None
        verdict = answer.choices[0].message.parsed if answer.choices else None
        if verdict is None or verdict.appropriate + verdict.inappropriate != len(drugs):
            return None
        return verdict

    def judge(self, predictions: pl.DataFrame, samples: pl.DataFrame, on_verdict: Told) -> Judgement:
        """Judge a cell's lists, admission by admission."""
        shares, unscored, no_list = [], 0, 0
        rows = zip(predictions["drugs"].to_list(), samples.iter_rows(named=True), strict=True)
        for done, (drugs, facts) in enumerate(rows, 1):
            if not drugs:
                no_list += 1
            elif (verdict := self.ask(facts, drugs)) is None:
                unscored += 1
            else:
                shares.append(verdict.appropriate / len(drugs))
            on_verdict(done, samples.height, None)
        return Judgement(fmean(shares) if shares else None, len(shares), unscored, no_list)
