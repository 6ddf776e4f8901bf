"""Which data may go to which endpoint. Asked before a client exists, so that a refusal is before any connection.

Data are credentialed unless the cohort says otherwise (`rxdraft etl --open-data`): unknown is not open. Text made
of credentialed data leaves this machine only with a signed affirmation that names the person, the endpoint and
the data. PhysioNet's terms forbid sharing with third parties: see its news of 2025-09-24 on language models.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from etl.artefacts import sha256, sha256_file
from etl.cohort import read_cohort
from etl.errors import ConfigError


class Provenance(StrEnum):
    """Whose terms the data are under; the first is the most restrictive."""

    CREDENTIALED = "credentialed"
    DEMO = "demo"
    SYNTHETIC = "synthetic"


FIELDS = {
    "person": "who answers for this, by name",
    "date": "of signing, YYYY-MM-DD",
    "endpoint": "the URL the data may go to",
    "zero_retention": "where the provider says in writing that nothing is kept",
    "no_human_review": "where the provider says in writing that nobody there reads it",
    "scope": "what is sent, and for what",
    "expires": "the last day this holds, YYYY-MM-DD",
    "data_sha256": "of the data: a cohort's cohort.json, or the file itself",
    "statement": "the sentence below, unchanged",
    "signature": "the person's name once more, typed by them",
}
"""Of an affirmation file, in TOML."""

STATEMENT = (
    "I am credentialed for these data. Their use agreement permits this endpoint, which neither retains them "
    "nor lets a person read them, and I answer for it."
)


def read_provenance(cohort: Path) -> Provenance:
    """Return whose terms a cohort is under: demo where it was made as open data, else credentialed."""
    settings = read_cohort(cohort).get("settings", {})
    return Provenance.DEMO if settings.get("open_data") is True else Provenance.CREDENTIALED


def is_local(url: str) -> bool:
    """Tell whether a URL is this machine by its own name; a name that merely resolves here is elsewhere."""
    host = _host(url)
    return host == "localhost" or _is_loopback(host)


def _host(url: str) -> str:
    """Return the host of an http URL that every parser reads alike; "" where it is none.

    They disagree about what follows a backslash or an @, and about white space within.
    """
    try:
        parsed = urlsplit(url)
        plain = url.isprintable() and not set(url) & {" ", "\\"} and parsed.username is None and parsed.port != 0
    except ValueError:
        return ""
    return (parsed.hostname or "") if plain and parsed.scheme in ("http", "https") else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Passage:
    """That data may go to an endpoint, and why.

    Attributes:
        affirmation_sha256: of the signed file; None where none was needed.
    """

    provenance: Provenance
    endpoint: str
    local: bool
    affirmation_sha256: str | None = None


def let_pass(provenance: Provenance, endpoint: str, data: Path, affirmation: Path | None) -> Passage:
    """Return the passage of a text to an endpoint, if there is one.

    Args:
        provenance: whose terms the text is under.
        endpoint: the server's URL.
        data: what the text is made of: a cohort's folder, or a file.
        affirmation: a signed file; None: there is none.

    Raises:
        ConfigError: the URL is none, or credentialed data would leave this machine without a valid affirmation; what is
            wrong with it is named, all at once.
    """
    local = is_local(endpoint)
    if not _host(endpoint):
        raise ConfigError(f"endpoint {endpoint!r} is no http or https URL; wanted one such as http://127.0.0.1:8000/v1")
    if local or provenance is not Provenance.CREDENTIALED:
        return Passage(provenance, endpoint, local)
    if affirmation is None:
        raise ConfigError(
            f"endpoint {_host(endpoint)} is not on this machine and {data} is credentialed data; use a "
            "local endpoint, or give --affirmation FILE, signed (--dry-run prints one to fill in)"
        )
    problems = _problems(affirmation, endpoint, _digest(data))
    if problems:
        raise ConfigError(f"{affirmation} does not let credentialed data go: {'; '.join(problems)}")
    return Passage(provenance, endpoint, local, sha256(affirmation.read_bytes()))


def _problems(affirmation: Path, endpoint: str, data_sha256: str) -> list[str]:
    try:
        said: dict[str, Any] = tomllib.loads(affirmation.read_text("utf-8"))
    except (OSError, ValueError):
        return ["it is no readable TOML file"]
    words = {name: str(said.get(name, "")).strip() for name in FIELDS}
    missing = [name for name, word in words.items() if not word]
    problems = [f"{', '.join(missing)} missing"] if missing else []
    wrong = {
        f"endpoint is another than {endpoint}": words["endpoint"].rstrip("/") != endpoint.rstrip("/"),
        f"data_sha256 is another than {data_sha256[:12]}": words["data_sha256"] != data_sha256,
        "statement was changed": words["statement"] != STATEMENT,
        "signature is not the person's name": words["signature"] != words["person"],
    }
    problems += [problem for problem, found in wrong.items() if found]
    today = datetime.now(UTC).date()
    signed, expires = _date(words["date"]), _date(words["expires"])
    if signed is None or signed > today:
        problems.append("date is no day up to today")
    if expires is None or expires < today:
        problems.append("expires is no day from today on")
    return problems


def _digest(data: Path) -> str:
    """Return what names the data: a file's digest; of a cohort that of its cohort.json, which names its files."""
    return sha256_file(data / "cohort.json" if data.is_dir() else data)


def _date(word: str) -> date | None:
    try:
        return date.fromisoformat(word)
    except ValueError:
        return None


def affirmation_form(endpoint: str, data: Path) -> str:
    """Return an affirmation to fill in: what is known is there, what a person has to answer for is empty."""
    known = {"endpoint": endpoint, "data_sha256": _digest(data), "statement": STATEMENT}
    return "\n".join(f'{name} = "{known.get(name, "")}"  # {meaning}' for name, meaning in FIELDS.items()) + "\n"
