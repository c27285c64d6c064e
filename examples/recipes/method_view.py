"""A class-based view with async methods, as REST APIs are written.

Stock Flask serves it, with a thread and an event loop for each request.
"""

import os

import aiohttp
from flask import Flask, request
from flask.views import MethodView

UPSTREAM_URL = os.environ["UPSTREAM_URL"]
app = Flask(__name__)


class UserAPI(MethodView):
    init_every_request = False

    async def fetch(self, number):
        async with (
            aiohttp.ClientSession(UPSTREAM_URL) as session,
            session.get(f"/users/{number}") as response,
        ):
            return await response.json()

    async def get(self, number):
        return await self.fetch(number)

    async def patch(self, number):
        return {**await self.fetch(number), **request.get_json()}


class Ping(MethodView):
    async def get(self):
        return "pong"


app.add_url_rule("/users/<int:number>", view_func=UserAPI.as_view("user"))
app.add_url_rule("/ping", view_func=Ping.as_view("ping"))
