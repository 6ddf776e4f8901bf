"""How `rxdraft serve` starts: what can be checked is, a port is opened, a key is at hand, and it serves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from etl.errors import ConfigError
from serving.settings import Settings, is_loopback
from serving.starting.fleet import Fleet
from serving.starting.process import Plan, listen, serve_alone, serve_together

Say = Callable[[str], None]


def start(
    fleet: Fleet,
    settings: Settings,
    address: tuple[str, int],
    workers: int,
    tls: tuple[Path | None, Path | None],
    say: Say,
    told: Say,
    terminal: bool,
) -> None:
    """Serve until told to stop.

    Args:
        fleet: the models; none: the demo's.
        settings: of the deployment; public_url follows from the address if nobody gave it.
        address: host, and port to listen on; 0: any.
        workers: processes.
        tls: certificate and key, both or neither.
        say: told the address and, the first time, the key; told: the steps of making the demo.
        terminal: whether a person reads what is said, so that the key may be among it.

    Raises:
        ConfigError, ContractError: something cannot work.
        StoreError: the store does not answer.
    """
    from serving.access.exposure import check_exposure
    from serving.operation.logs import configure_logs
    from serving.operation.metrics_folder import shared_metrics
    from serving.screening import Screener
    from serving.store.location import store_url

    options = _tls(*tls)
    fleet = fleet if fleet.models else _demo(fleet, told)
    fleet.engines()
    Screener(settings.interactions)
    with listen(*address) as listener:
        settings = _with_address(settings, address[0], listener.getsockname()[1], bool(options))
        check_exposure(settings, address[0], tls=bool(options))
        plan = Plan(fleet, settings, store_url(settings.store), workers)
        _welcome(plan, say, terminal)
        configure_logs(settings)
        if workers == 1:
            serve_alone(plan, listener, **options)
            return
        with shared_metrics(), tempfile.TemporaryDirectory() as folder:
            serve_together(replace(plan, told=Path(folder) / "told"), listener, **options)


def _tls(certfile: Path | None, keyfile: Path | None) -> dict[str, str]:
    if (certfile is None) != (keyfile is None):
        raise ConfigError("--ssl-certfile and --ssl-keyfile go together; give both, or neither")
    if certfile is None or keyfile is None:
        return {}
    if missing := [str(path) for path in (certfile, keyfile) if not path.is_file()]:
        raise ConfigError(f"{', '.join(missing)}: no file; give PEM files")
    return {"ssl_certfile": str(certfile), "ssl_keyfile": str(keyfile)}


def _demo(fleet: Fleet, told: Say) -> Fleet:
    from serving.starting.demo import BASELINE, NAME, demo_cohort

    if fleet != Fleet(()):
        raise ConfigError("--base, --data, --k and --endpoint are about a --model; give one, or none of them")
    return Fleet((f"{NAME}=baseline:{BASELINE}",), data=demo_cohort(told), demo=True)


def _with_address(settings: Settings, host: str, port: int, tls: bool) -> Settings:
    """Let public_url follow from the port on this machine, where nobody has said what it is."""
    if "public_url" in settings.model_fields_set or not is_loopback(host):
        return settings
    named = f"[{host}]" if ":" in host else host
    return settings.model_copy(update={"public_url": f"{'https' if tls else 'http'}://{named}:{port}"})


def _welcome(plan: Plan, say: Say, terminal: bool) -> None:
    """Say where the service is and, the first time, by which key it opens; in no log."""
    from serving.starting.first_key import first_key, works
    from serving.store.engine import open_store
    from serving.store.keys import Keys

    settings, store = plan.settings, open_store(plan.store)
    keys = Keys(store)
    made = keys.all()
    if settings.dev:
        say(f"rxdraft: {settings.public_url}/ (--dev: no key is asked for)")
    else:
        say(f"rxdraft: {settings.public_url}/sign-in")
        if not made and not settings.oidc:
            say(f"rxdraft: {first_key(keys, plan.store, terminal)}")
        elif not settings.oidc and not any(map(works, made)):
            say("rxdraft: every key is revoked or expired; make one with `rxdraft keys add`")
    store.close()
