"""The three services that a dashboard needs: what they answer, how late, and where they are."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """An upstream HTTP service: `GET <its address>/<key>` gives `answers[key]` after a delay."""

    name: str
    delay_ms: int
    answers: dict[str, object]
    needs: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that holds the service's address."""
        return f"{self.name.upper()}_URL"


PROFILE = Service(
    "profile",
    delay_ms=100,
    answers={"ada": {"name": "Ada", "favourite": "saison"}},
)
ORDERS = Service(
    "orders",
    delay_ms=150,
    answers={"ada": ["Glass carboy, 23 litres", "Airlock", "Pilsner malt, 5 kg"]},
)
RECOMMENDATIONS = Service(
    "recommendations",
    delay_ms=120,
    answers={"saison": ["Saison yeast", "Coriander seeds", "Swing-top bottles"]},
    needs="profile",
)
SERVICES = (PROFILE, ORDERS, RECOMMENDATIONS)

# What every dashboard of the customer "ada" must contain, however it was fetched.
DASHBOARD = {
    "profile": PROFILE.answers["ada"],
    "orders": ORDERS.answers["ada"],
    "recommendations": RECOMMENDATIONS.answers["saison"],
}

# One call after another takes the sum of the delays. Nothing can be faster than the longest
# chain of calls that need each other.
SUM_MS = sum(service.delay_ms for service in SERVICES)
CRITICAL_PATH_MS = max(PROFILE.delay_ms + RECOMMENDATIONS.delay_ms, ORDERS.delay_ms)


def url(service: str, key: str) -> str:
    """Return the address of one answer of a service."""
    variable = f"{service.upper()}_URL"
    address = os.environ.get(variable)
    if address is None:
        message = (
            f"{variable} is not set. Run `python examples/demo`, which starts the services and "
            "this app, or `python upstreams.py`, which starts the services and prints their "
            "addresses."
        )
        raise RuntimeError(message)
    return f"{address}/{key}"
