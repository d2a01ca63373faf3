"""FastAPI, for uvicorn and hypercorn."""

import sample
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

app = FastAPI()


@app.api_route("/text", methods=["GET", "HEAD"])
async def text(request: Request):
    status, fields, content = sample.text(request.headers.get("if-none-match"), request.headers.get("range"))
    return Response(content, status, fields, "text/plain")


@app.get("/gzip")
async def compressed():
    return Response(sample.COMPRESSED, headers=sample.GZIP_FIELDS, media_type="text/plain")


@app.get("/chunked")
async def chunked():
    return StreamingResponse(iter(sample.CHUNKS), media_type="text/plain")


@app.get("/redirect")
async def redirect():
    return RedirectResponse("/text", 302)


@app.get("/set-cookies")
async def set_cookies():
    answer = Response("set")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


@app.get("/cookies")
async def cookies(request: Request):
    return Response(request.headers.get("cookie", ""))


@app.get("/events")
async def events():
    return StreamingResponse(iter(sample.EVENTS), media_type="text/event-stream")


# Not async: it runs on a thread of its own.
@app.get("/slow")
def slow():
    return Response(sample.wait_for_release())


@app.post("/echo")
async def echo(request: Request):
    return Response(sample.echo(await request.body()))


@app.post("/refused")
async def refused(request: Request):
    if int(request.headers.get("content-length", 0)) > sample.LIMIT:
        return Response("too large", 413)
    return Response(sample.echo(await request.body()))
