"""To the Hugging Face Hub, if asked: into a private repository, and never credentialed data by accident."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import ConfigError
from etl.outside.firewall import Provenance
from training.export.origin import is_hub_id, provenance
from training.manifest import Manifest

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def check_push(manifest: Manifest, repo: str, base: str, merged: bool, confirmed: str | None) -> None:
    """See, before anything is written, that a checkpoint may go to a repository of the hub.

    Args:
        manifest: of the checkpoint.
        repo: owner/name.
        base: of the checkpoint, as the export will name it.
        merged: the export is a whole model.
        confirmed: the first 12 digits of the cohort whose data the user says may go there.

    Raises:
        ConfigError: it may not; all reasons are named.
    """
    problems = []
    if repo.count("/") != 1:
        problems.append(f"--push {repo} is no repository; wanted OWNER/NAME")
    if not merged and not is_hub_id(base):
        problems.append(
            f"its base {Path(base).name} is a folder of this machine; give --base with its hub id, or --merge"
        )
    cohort = manifest.cohort_sha256[:12]
    if provenance(manifest) is Provenance.CREDENTIALED and confirmed != cohort:
        problems.append(
            f"it was made from credentialed data, cohort {cohort}, and the hub is a third party, also in private; if "
            f"the data's use agreement permits it and you answer for that, give --yes-credentialed-data {cohort}"
        )
    if problems:
        raise ConfigError(f"not pushed: {'; '.join(problems)}")


def push(folder: Path, repo: str, whose: Provenance, api: HfApi | None = None) -> str:
    """Upload a folder to a repository, made private if it is new, and return its URL.

    Raises:
        ConfigError: the hub refuses, or the repository is public and the data are credentialed; nothing was uploaded.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    api = api or HfApi()
    try:
        url = api.create_repo(repo, private=True, exist_ok=True)
        if whose is Provenance.CREDENTIALED and not api.repo_info(repo).private:
            raise ConfigError(f"not pushed: {repo} is public, and the data are credentialed; make it private first")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="rxdraft export-model")
    except (HTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"not pushed to {repo} ({type(error).__name__}); log in with `hf auth login`, or see whether the hub "
            "answers; the export stands"
        ) from None
    return str(url)
