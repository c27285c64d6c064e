"""A def view and promises: calls begin at once, and the view waits for them when it needs them."""

from flask import Blueprint
from services import url
from timeline import KeptTimeline

from carboy import http

blueprint = Blueprint("carboy_def", __name__)


def fetch(service, key):
    return http.get(url(service, key)).then(lambda response: response.raise_for_status().json())


@blueprint.get("/carboy_def/<customer>")
def dashboard(customer):
    timeline = KeptTimeline()
    profile = fetch("profile", customer)
    orders = fetch("orders", customer)
    recommendations = profile.then(lambda known: fetch("recommendations", known["favourite"]))
    return timeline.finish(
        profile=profile.result(),
        orders=orders.result(),
        recommendations=recommendations.result(),
    )
