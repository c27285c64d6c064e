"""What type checkers infer for calls of services. Checked, not run."""

from __future__ import annotations

from typing import Any, assert_type

from carboy import Promise, http


def name_of(response: http.Response) -> str:
    return response.text


def number_of(response: http.Response) -> int:
    return len(response.content)


def calls(session: http.Session, user: Promise[dict[str, int]], token: Promise[str]) -> None:
    name = session.get("/user").then(name_of)
    assert_type(name, Promise[str])
    both = Promise.all(name, http.get("http://a/").then(number_of))
    assert_type(both, Promise[tuple[str, int]])
    assert_type(http.get(name), Promise[http.Response])
    assert_type(http.get("http://a/", params={"q": name, "limit": 1}), Promise[http.Response])
    assert_type(http.get("http://a/", params=user), Promise[http.Response])
    assert_type(
        session.post("/orders", json={"user": user["id"]}, headers={"X-Token": token}),
        Promise[http.Response],
    )
    assert_type(session.put("/orders", content=token, cookies={"c": token}), Promise[http.Response])
    assert_type(session.patch("/orders", data={"name": name}), Promise[http.Response])


def waiting(session: http.Session) -> None:
    response = session.get("/user").result()
    assert_type(response, http.Response)
    assert_type(response.status_code, int)
    assert_type(response.json(), Any)
    with http.stream("GET", "http://a/") as streamed:
        for line in streamed.iter_lines():
            assert_type(line, str)
