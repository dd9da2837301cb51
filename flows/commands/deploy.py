"""`mcgurk deploy`: puts our deployments on your own Prefect server (docs/operating.md)."""

from dataclasses import dataclass
from pathlib import Path

from flows.arguments import Notify, Ping, Root
from flows.services.receivers import Receivers
from flows.services.servers import given_api, prefect_api
from schemas.errors import RequestError
from schemas.storage import open_root

EXAMPLE = "mcgurk deploy --root data"
IS_LONG = True


@dataclass(frozen=True)
class Options:
    """Which root the deployments build and train on, and where alarms and success pings are sent."""

    root: Root
    notify: Notify = None
    ping: Ping = None


def run(options: Options) -> int:
    """Puts pools, deployments and automation on the user's own Prefect server."""
    root = open_root(options.root)
    if given_api() is None:
        raise RequestError(
            "no server: set PREFECT_API_URL or a Prefect profile; to start our own server, use mcgurk serve"
        )
    receivers = Receivers(options.notify, options.ping)
    receivers.check()
    with prefect_api(Path()) as address:
        from flows.services.alarms import deploy_watched  # Prefect reads its settings when it is imported
        from flows.services.deployments import DEPLOYMENTS, POOLS

        deploy_watched(str(root), receivers)
    print(f"deployed on {address} for {root}: the contents of {DEPLOYMENTS}")
    print(
        "next, a worker for each pool: " + "; ".join(f"prefect worker start --pool {pool}" for pool in POOLS)
    )
    return 0
