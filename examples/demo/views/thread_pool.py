"""A pool of threads for each request: fast for one visitor, several threads for every visitor."""

from concurrent.futures import ThreadPoolExecutor

import requests
from flask import Blueprint
from services import url
from timeline import Timeline

blueprint = Blueprint("thread_pool", __name__)


@blueprint.get("/thread_pool/<customer>")
def dashboard(customer):
    timeline = Timeline()

    def fetch(service, key):
        with timeline.call(service):
            response = requests.get(url(service, key), timeout=5)
            response.raise_for_status()
            return response.json()

    with ThreadPoolExecutor(max_workers=2) as pool:
        orders = pool.submit(fetch, "orders", customer)
        profile = pool.submit(fetch, "profile", customer).result()
        recommendations = fetch("recommendations", profile["favourite"])
    return timeline.finish(profile=profile, orders=orders.result(), recommendations=recommendations)
