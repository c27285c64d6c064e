"""asyncpg and redis-py on carboy's loop, with real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from libraries import library

import carboy

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 60


def test_asyncpg_queries_streams_notifies_and_cancels(postgresql: str) -> None:
    asyncpg = library("asyncpg")

    async def main() -> None:
        assert type(asyncio.get_running_loop()) is carboy.EventLoop
        async with asyncpg.create_pool(postgresql, min_size=2, max_size=5) as pool:
            async with pool.acquire() as connection:
                await connection.execute("CREATE TABLE item (number int PRIMARY KEY, name text)")
                rows = [(number, f"name {number}") for number in range(5000)]
                await connection.copy_records_to_table("item", records=rows)
                async with connection.transaction():
                    names = [row["name"] async for row in connection.cursor("TABLE item")]
                assert names == [name for _, name in rows]
                with pytest.raises(asyncpg.UniqueViolationError):
                    await connection.execute("INSERT INTO item VALUES (1, 'again')")
                # Larger than a socket's buffers, both ways.
                large = "x" * 5_000_000
                assert await connection.fetchval("SELECT $1::text", large) == large

            async def count(below: int) -> int:
                answer = await pool.fetchval("SELECT count(*) FROM item WHERE number < $1", below)
                assert isinstance(answer, int)
                return answer

            assert await asyncio.gather(*map(count, range(200))) == list(range(200))

            async with pool.acquire() as listener:
                told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

                def hear(*event: Any) -> None:
                    told.set_result(event[-1])

                await listener.add_listener("news", hear)
                await pool.execute("SELECT pg_notify('news', 'hello')")
                assert await asyncio.wait_for(told, 10) == "hello"
                await listener.remove_listener("news", hear)

            async with pool.acquire() as connection:
                with pytest.raises(asyncio.TimeoutError):
                    await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
                assert await connection.fetchval("SELECT 1") == 1

    carboy.run(asyncio.wait_for(main(), TIMEOUT_SECONDS))


def test_redis_pipelines_subscribes_and_blocks(redis_server: str) -> None:
    redis = library("redis.asyncio")

    async def main() -> None:
        assert type(asyncio.get_running_loop()) is carboy.EventLoop
        async with redis.from_url(redis_server, decode_responses=True) as client:
            await client.set("greeting", "hello")
            assert await client.get("greeting") == "hello"
            async with client.pipeline(transaction=True) as pipeline:
                for _ in range(1000):
                    pipeline.incr("counter")
                assert await pipeline.execute() == list(range(1, 1001))
            large = "x" * 5_000_000
            await client.set("large", large)
            assert await client.get("large") == large

            async def increase() -> Any:
                return await client.incr("counter")

            answers = await asyncio.gather(*(increase() for _ in range(50)))
            assert sorted(answers) == list(range(1001, 1051))

            async with client.pubsub() as subscription:
                await subscription.subscribe("news")
                first = await anext(subscription.listen())
                assert first["type"] == "subscribe"
                assert await client.publish("news", "hello") == 1
                message = await anext(subscription.listen())
                assert (message["type"], message["data"]) == ("message", "hello")

            popping = asyncio.create_task(client.blpop("jobs", timeout=10))
            await asyncio.sleep(0)
            await client.rpush("jobs", "first")
            assert list(await popping) == ["jobs", "first"]

    carboy.run(asyncio.wait_for(main(), TIMEOUT_SECONDS))
