"""An async view and one aiohttp client for all requests: no thread waits, connections are kept."""

import asyncio
from functools import cache

import aiohttp
from flask import Blueprint
from services import url
from timeline import Timeline

blueprint = Blueprint("shared_aiohttp", __name__)


@cache
def client():
    return aiohttp.ClientSession(raise_for_status=True)


@blueprint.get("/shared_aiohttp/<customer>")
async def dashboard(customer):
    timeline = Timeline()

    async def fetch(service, key):
        with timeline.call(service):
            async with client().get(url(service, key)) as response:
                return await response.json()

    async with asyncio.TaskGroup() as group:
        orders = group.create_task(fetch("orders", customer))
        profile = await fetch("profile", customer)
        recommendations = await fetch("recommendations", profile["favourite"])
    return timeline.finish(profile=profile, orders=orders.result(), recommendations=recommendations)
