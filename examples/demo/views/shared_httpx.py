"""An async view and one httpx client for all requests: the client may be made at import."""

import asyncio

import httpx
from flask import Blueprint
from services import url
from timeline import Timeline

blueprint = Blueprint("shared_httpx", __name__)
client = httpx.AsyncClient()


@blueprint.get("/shared_httpx/<customer>")
async def dashboard(customer):
    timeline = Timeline()

    async def fetch(service, key):
        with timeline.call(service):
            response = await client.get(url(service, key))
            return response.raise_for_status().json()

    async with asyncio.TaskGroup() as group:
        orders = group.create_task(fetch("orders", customer))
        profile = await fetch("profile", customer)
        recommendations = await fetch("recommendations", profile["favourite"])
    return timeline.finish(profile=profile, orders=orders.result(), recommendations=recommendations)
