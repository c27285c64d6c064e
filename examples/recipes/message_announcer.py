"""Server-sent events from a `def` view: a generator that blocks on a `queue.Queue`.

Stock Flask serves it, with one worker thread held by every listener. Were the generator run on the
event loop's thread, the first listener would stop the whole server.
"""

import queue

from flask import Flask, request

app = Flask(__name__)


class MessageAnnouncer:
    def __init__(self):
        self.listeners = []

    def listen(self):
        messages = queue.Queue(maxsize=5)
        self.listeners.append(messages)
        return messages

    def announce(self, message):
        for messages in list(self.listeners):
            messages.put_nowait(message)


announcer = MessageAnnouncer()


@app.get("/events")
def listen():
    messages = announcer.listen()

    def stream():
        try:
            while (message := messages.get()) is not None:
                yield f"data: {message}\n\n"
        finally:
            announcer.listeners.remove(messages)

    return stream(), {"Content-Type": "text/event-stream"}


@app.post("/announcements")
def announce():
    announcer.announce(request.get_data(as_text=True))
    return "", 204


@app.delete("/listeners")
def dismiss():
    announcer.announce(None)
    return "", 204


@app.get("/listeners")
def count():
    return {"listeners": len(announcer.listeners)}


@app.get("/ping")
def ping():
    return "pong"
