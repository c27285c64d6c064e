"""What type checkers make of ``then`` and its kin. Checked, not run."""

from __future__ import annotations

from typing import Any, assert_type

from carboy import Promise
from carboy.promise import Fulfilled, Rejected


class User:
    name: str


class Order:
    total: int


async def load_user(number: int) -> User:
    raise NotImplementedError


async def load_orders(user: User) -> list[Order]:
    raise NotImplementedError


def orders_of(user: User) -> Promise[list[Order]]:
    return Promise(load_orders(user))


def name_of(user: User) -> str:
    return user.name


def explain(error: Exception) -> None: ...


def explain_key(error: KeyError) -> float:
    return len(error.args)


async def mend(error: Exception) -> bytes:
    return str(error).encode()


user = Promise(load_user(1))
assert_type(user, Promise[User])

# A function, a coroutine function and one that returns a promise: each gives its result.
assert_type(user.then(name_of), Promise[str])
assert_type(user.then(load_orders), Promise[list[Order]])
assert_type(user.then(orders_of), Promise[list[Order]])
assert_type(user.then(lambda user: user.name), Promise[str])
assert_type(user.then(name_of, on="thread"), Promise[str])
assert_type(user.then(), Promise[User])
assert_type(user.and_then(load_orders), Promise[list[Order]])
assert_type(user.and_then(orders_of), Promise[list[Order]])
# A lambda that returns a promise: this is what and_then is for.
assert_type(user.and_then(lambda user: orders_of(user)), Promise[list[Order]])

assert_type(user.then(name_of, explain), Promise[str | None])
assert_type(user.then(name_of, mend), Promise[str | bytes])
assert_type(user.then(load_orders, mend), Promise[list[Order] | bytes])
assert_type(user.then(load_orders, explain), Promise[list[Order] | None])
assert_type(user.then(None, explain), Promise[User | None])
assert_type(user.then(None, mend), Promise[User | bytes])

assert_type(user.catch(explain), Promise[User | None])
assert_type(user.catch(mend), Promise[User | bytes])
assert_type(user.catch(KeyError, explain_key), Promise[User | float])
assert_type(user.catch(KeyError, lambda error: len(error.args) == 1), Promise[User | bool])
assert_type(user.catch((KeyError, ValueError), mend), Promise[User | bytes])

assert_type(user.or_else(None), Promise[User | None])
assert_type(user.or_else(load_user(2)), Promise[User])
assert_type(user.or_else(Promise.resolve(1)), Promise[User | int])
assert_type(user.tap(print), Promise[User])
assert_type(user.finally_(lambda: print("done")), Promise[User])
assert_type(user.shield(), Promise[User])
assert_type(user.detach("audit"), Promise[User])
assert_type(user.timeout(1), Promise[User])
assert_type(user.timeout(1, None), Promise[User | None])
assert_type(user.timeout(1, default=b""), Promise[User | bytes])
assert_type(user["name"], Promise[Any])


def tell(outcome: Fulfilled[User] | Rejected) -> str:
    if isinstance(outcome, Fulfilled):
        assert_type(outcome.value, User)
        return outcome.value.name
    assert_type(outcome.error, BaseException)
    return str(outcome.error)


assert_type(user.settle(tell), Promise[str])
assert_type(user.peek(), Fulfilled[User] | Rejected | None)
assert_type(user.result(), User)
assert_type(user.result(timeout=1), User)
assert_type(user.exception(), BaseException | None)
assert_type(user.done(), bool)
assert_type(user.cancelled(), bool)
assert_type(user.cancel(), bool)


async def wait() -> None:
    assert_type(await user, User)
    assert_type(await user.then(name_of), str)


# A promise of something is one of anything it may be taken for.
def take(promise: Promise[object]) -> None: ...


take(user)
