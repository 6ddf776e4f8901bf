"""The subcommands `rxdraft keys add`, `list` and `revoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from serving.access.principal import Role, Scope

if TYPE_CHECKING:
    from serving.store.keys import Keys

app = typer.Typer(no_args_is_help=True, help="API keys of the service: make, list, revoke.")

STORE = Annotated[
    str | None, typer.Option(help="URL of the store; else $RXDRAFT_STORE, else the file `rxdraft serve` takes.")
]


@app.command()
def add(
    name: Annotated[str, typer.Option(help="Whose key it is, as the list shows it: a person or a program.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; several times for several roles.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="Hold it to this part of its roles; several times.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="It expires so many days from now; left out, never.")] = None,
    store: STORE = None,
) -> None:
    """Make a key, and print it: this once, on stdout and nowhere else."""
    import sys
    from datetime import UTC, datetime, timedelta

    from serving.access.keys import make_key

    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    keys = _keys(store)
    text, kept = make_key(_fit_name(name), role, _fit_scopes(role, scope or []), expires_at)
    keys.add(kept)
    print(f"Key {kept.key_id} is made; it is shown this once.", file=sys.stderr)
    print(text)


@app.command("list")
def list_(store: STORE = None) -> None:
    """List the keys, revoked and expired ones too."""
    for key in _keys(store).all():
        until = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "no end"
        used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
        print("\t".join((key.key_id, ",".join(key.roles), ",".join(key.scopes) or "-", until, used, key.name)))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id: the part of rxd_ID_... between the lines.")],
    store: STORE = None,
) -> None:
    """End a key, and the sessions it opened, at once."""
    import sys

    from etl.errors import ConfigError

    keys = _keys(store)
    if keys.find(key_id) is None:
        raise ConfigError("no key has this id; `rxdraft keys list` shows them")
    keys.revoke(key_id, "cli")
    print(f"Key {key_id} is revoked.", file=sys.stderr)


def _keys(store: str | None) -> Keys:
    from serving.store.engine import open_store
    from serving.store.keys import Keys
    from serving.store.location import store_url

    return Keys(open_store(store_url(store)))


def _fit_name(name: str) -> str:
    from etl.errors import ConfigError

    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise ConfigError("--name wants 1 to 200 characters that can be printed")
    return name


def _fit_scopes(roles: list[Role], scopes: list[Scope]) -> list[Scope]:
    from etl.errors import ConfigError
    from serving.access.principal import ROLE_SCOPES

    held = frozenset[Scope]().union(*(ROLE_SCOPES[role] for role in roles))
    if beyond := sorted(set(scopes) - held):
        raise ConfigError(f"no role given holds {', '.join(beyond)}; these roles hold {', '.join(sorted(held))}")
    return scopes
