"""A def view that returns promises: carboy waits for them, and answers with their values."""

from flask import Blueprint
from services import url
from timeline import KeptTimeline

from carboy import Promise, http

blueprint = Blueprint("carboy_returned", __name__)


def fetch(service, key):
    return http.get(url(service, key)).then(lambda response: response.raise_for_status().json())


@blueprint.get("/carboy_returned/<customer>")
def dashboard(customer):
    timeline = KeptTimeline()
    profile = fetch("profile", customer)
    orders = fetch("orders", customer)
    recommendations = profile.then(lambda known: fetch("recommendations", known["favourite"]))
    everything = Promise.all(profile, orders, recommendations)
    return {
        "dashboard": {"profile": profile, "orders": orders, "recommendations": recommendations},
        "duration_ms": everything.then(lambda _: timeline.elapsed_ms()),
        "calls": everything.then(lambda _: timeline.calls()),
    }
