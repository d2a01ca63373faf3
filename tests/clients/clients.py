#!/usr/bin/env python3
"""Python's clients. Usage: clients.py CLIENT URL [slow]"""

import asyncio
import hashlib
import sys

client, url, *slow = sys.argv[1:]
UPLOAD = b"0123456789" * 20_000
MEGABYTES = b"0" * 5_000_000
LARGE = b"x" * 8_000_000
EXPECT = {"Expect": "100-continue"}


def say(case, status, body=b"", *more):
    print(case, status, hashlib.sha256(body).hexdigest()[:8], *more, sep="\t", flush=True)


def say_held(case, first, second, third):
    """Whether a version was held until it was purged, and another one came then."""
    print(case, f"{'held' if first == second else 'fetched'} {'stale' if third == second else 'fresh'}", sep="\t")


def with_session(session, content):
    """requests and httpx.Client, which agree on nearly everything."""
    get = session.get
    if slow:
        answer = get(url + "/slow")
        return say("shutdown", answer.status_code, answer.content)
    for _ in range(2):
        answer = get(url + "/text")
    say("get", answer.status_code, answer.content)
    print("cached", "hit" in answer.headers.get("cache-status", ""), sep="\t")
    say("304", get(url + "/text", headers={"If-None-Match": '"1"'}).status_code)
    answer = get(url + "/text", headers={"Range": "bytes=700-1399"})
    say("range", answer.status_code, answer.content, answer.headers["content-range"])
    say("head", session.head(url + "/text").status_code)
    for case in ["gzip", "chunked", "redirect"]:
        answer = get(f"{url}/{case}")
        say(case, answer.status_code, answer.content)
    # A session with cookies is a caller of its own.
    for case, method in [("purge", "PURGE"), ("update", "POST")]:
        first, second = get(url + "/count").content, get(url + "/count").content
        session.request(method, url + "/count")
        say_held(case, first, second, get(url + "/count").content)
    get(url + "/set-cookies")
    say("cookies", 200, get(url + "/cookies").content)
    answer = session.post(url + "/echo", **{content: UPLOAD})
    say("upload", answer.status_code, answer.content)
    answer = session.post(url + "/echo", **{content: iter([UPLOAD, UPLOAD])})
    say("stream", answer.status_code, answer.content)
    answer = session.post(url + "/echo", headers=EXPECT, **{content: MEGABYTES})
    say("continue", answer.status_code, answer.content)
    say("events", 200, get(url + "/events").content)
    try:
        answer = session.post(url + "/refused", **{content: LARGE})
        say("early", answer.status_code, answer.content)
    except Exception as error:
        say("early", type(error).__name__)


async def with_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:

        async def ask(method, path, **options):
            async with session.request(method, url + path, **options) as answer:
                return answer, await answer.read()

        if slow:
            answer, body = await ask("GET", "/slow")
            return say("shutdown", answer.status, body)
        for _ in range(2):
            answer, body = await ask("GET", "/text")
        say("get", answer.status, body)
        print("cached", "hit" in answer.headers.get("cache-status", ""), sep="\t")
        say("304", (await ask("GET", "/text", headers={"If-None-Match": '"1"'}))[0].status)
        answer, body = await ask("GET", "/text", headers={"Range": "bytes=700-1399"})
        say("range", answer.status, body, answer.headers["content-range"])
        say("head", (await ask("HEAD", "/text"))[0].status)
        for case in ["gzip", "chunked", "redirect"]:
            answer, body = await ask("GET", "/" + case)
            say(case, answer.status, body)
        for case, method in [("purge", "PURGE"), ("update", "POST")]:
            versions = [(await ask("GET", "/count"))[1] for _ in range(2)]
            await ask(method, "/count")
            say_held(case, *versions, (await ask("GET", "/count"))[1])
        await ask("GET", "/set-cookies")
        say("cookies", 200, (await ask("GET", "/cookies"))[1])

        async def parts():
            yield UPLOAD
            yield UPLOAD

        for case, content in [("upload", UPLOAD), ("stream", parts())]:
            answer, body = await ask("POST", "/echo", data=content)
            say(case, answer.status, body)
        answer, body = await ask("POST", "/echo", data=MEGABYTES, expect100=True)
        say("continue", answer.status, body)
        say("events", 200, (await ask("GET", "/events"))[1])
        try:
            answer, body = await ask("POST", "/refused", data=LARGE)
            say("early", answer.status, body)
        except Exception as error:
            say("early", type(error).__name__)


if client == "requests":
    import requests

    with_session(requests.Session(), "data")
elif client == "httpx":
    import httpx

    with_session(httpx.Client(follow_redirects=True, trust_env=False), "content")
else:
    asyncio.run(with_aiohttp())
