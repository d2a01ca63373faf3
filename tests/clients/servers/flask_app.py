"""Flask, for gunicorn."""

import sample
from flask import Flask, Response, redirect, request

app = Flask(__name__)


@app.get("/text")
def text():
    status, fields, content = sample.text(request.headers.get("If-None-Match"), request.headers.get("Range"))
    return Response(content, status, fields, mimetype="text/plain")


@app.get("/gzip")
def compressed():
    return Response(sample.COMPRESSED, headers=sample.GZIP_FIELDS)


@app.get("/chunked")
def chunked():
    return Response(iter(sample.CHUNKS), mimetype="text/plain")


@app.get("/redirect")
def to_text():
    return redirect("/text")


@app.get("/set-cookies")
def set_cookies():
    answer = Response("set")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/cookies")
def cookies():
    return Response(request.headers.get("Cookie", ""))


@app.get("/events")
def events():
    return Response(iter(sample.EVENTS), mimetype="text/event-stream")


@app.get("/slow")
def slow():
    return Response(sample.wait_for_release())


@app.post("/echo")
def echo():
    return Response(sample.echo(request.get_data()))


@app.post("/refused")
def refused():
    request.max_content_length = sample.LIMIT
    return Response(sample.echo(request.get_data()))
