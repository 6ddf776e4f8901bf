"""A server to ask, and data to ask about."""

from tests.etl.outside.fixtures import open_cohort, plain_server, server

__all__ = ["open_cohort", "plain_server", "server"]
