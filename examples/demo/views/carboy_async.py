"""An async view and promises: the same client, awaited. No thread waits."""

from flask import Blueprint
from services import url
from timeline import KeptTimeline

from carboy import Promise, http

blueprint = Blueprint("carboy_async", __name__)


def fetch(service, key):
    return http.get(url(service, key)).then(lambda response: response.raise_for_status().json())


async def fetch_recommendations(customer):
    profile = await fetch("profile", customer)
    return profile, await fetch("recommendations", profile["favourite"])


@blueprint.get("/carboy_async/<customer>")
async def dashboard(customer):
    timeline = KeptTimeline()
    (profile, recommendations), orders = await Promise.all(
        Promise(fetch_recommendations(customer)), fetch("orders", customer)
    )
    return timeline.finish(profile=profile, orders=orders, recommendations=recommendations)
