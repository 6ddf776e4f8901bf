"""What can go wrong for a user, as a tree; a bug is none of these and keeps its traceback.

    RxdraftError                 the command stops with one line and exit status 2
    ├── SourceDataError          the MIMIC-IV files are not what the ETL can read
    ├── ConfigError              an option, a config file or a combination of them cannot work
    └── ContractError            an artefact of one stage does not fit what another stage expects

Every message says what was found, what was wanted and what to do, names all problems at once, and
holds nothing about a patient.
"""


class RxdraftError(Exception):
    """A user's mistake, told in one line."""


class SourceDataError(RxdraftError):
    """A source file is missing, unreadable, or holds what MIMIC-IV does not."""


class ConfigError(RxdraftError):
    """A setting is unknown, out of range, or contradicts another."""


class ContractError(RxdraftError):
    """An artefact is missing, half-written, or was made from something else than its reader expects."""
