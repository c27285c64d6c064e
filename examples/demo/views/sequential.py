"""One call after another, the plain way: the times add up."""

import requests
from flask import Blueprint
from services import url
from timeline import Timeline

blueprint = Blueprint("sequential", __name__)


@blueprint.get("/sequential/<customer>")
def dashboard(customer):
    timeline = Timeline()

    def fetch(service, key):
        with timeline.call(service):
            response = requests.get(url(service, key), timeout=5)
            response.raise_for_status()
            return response.json()

    profile = fetch("profile", customer)
    orders = fetch("orders", customer)
    recommendations = fetch("recommendations", profile["favourite"])
    return timeline.finish(profile=profile, orders=orders, recommendations=recommendations)
