"""A new event loop and a new client for each request: the calls overlap, nothing is kept."""

import asyncio

import aiohttp
from flask import Blueprint
from services import url
from timeline import Timeline

blueprint = Blueprint("asyncio_run", __name__)


@blueprint.get("/asyncio_run/<customer>")
def dashboard(customer):
    timeline = Timeline()

    async def fetch_all():
        async with aiohttp.ClientSession(raise_for_status=True) as session:

            async def fetch(service, key):
                with timeline.call(service):
                    async with session.get(url(service, key)) as response:
                        return await response.json()

            async with asyncio.TaskGroup() as group:
                orders = group.create_task(fetch("orders", customer))
                profile = await fetch("profile", customer)
                recommendations = await fetch("recommendations", profile["favourite"])
            return profile, orders.result(), recommendations

    profile, orders, recommendations = asyncio.run(fetch_all())
    return timeline.finish(profile=profile, orders=orders, recommendations=recommendations)
