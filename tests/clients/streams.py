#!/usr/bin/env python3
"""Python's clients of streams, and their servers.

    streams.py websockets|grpcio URL [slow]
    streams.py websocket-server|grpc-server        prints its port
"""

import asyncio
import concurrent.futures
import hashlib
import logging
import sys
import time

import sample


def say(case, *values):
    print(case, *values, sep="\t", flush=True)


def digest(data):
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:8]


async def serve_websockets():
    from websockets.asyncio.server import serve

    # Invalid frames are a part of the cases.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)

    async def echo(socket):
        async for message in socket:
            if message == "close":
                return await socket.close(4000, "asked")
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, subprotocols=["chat.v2"], max_size=1 << 22) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def exchange_messages(url, slow):
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    protocols = ["chat.v2"] if slow else ["chat.v1", "chat.v2"]
    address = url.replace("http", "ws") + "/echo"
    async with connect(address, subprotocols=protocols, max_size=1 << 22, proxy=None) as socket:
        if slow:
            print("open", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            await socket.send("still")
            seen = [await socket.recv()]
        else:
            seen = [socket.subprotocol, ",".join(type(one).__name__ for one in socket.protocol.extensions)]
            for message in ["text äöü", b"\7" * (1 << 20), "x" * (1 << 20)]:
                await socket.send(message)
                seen.append(digest(await socket.recv()))
            await (await socket.ping("p"))
            seen.append("pong p")
            await socket.send("close")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            seen.append(f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "broken off")
    if slow:
        say("shutdown", " ".join(seen).strip())
    else:
        say("WebSocket", *seen)


def serve_grpc():
    import grpc

    def slow(content, _):
        sample.wait_for_release()
        return content

    def never(content, context):
        while context.is_active():
            time.sleep(0.02)
        return content

    def fail(_, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such thing: ä")

    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda content, _: content),
        "Down": grpc.unary_stream_rpc_method_handler(lambda content, _: (b"%d" % at for at in range(int(content)))),
        "Up": grpc.stream_unary_rpc_method_handler(lambda parts, _: b"".join(parts)),
        "Both": grpc.stream_stream_rpc_method_handler(lambda parts, _: (part.upper() for part in parts)),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Never": grpc.unary_unary_rpc_method_handler(never),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("larder.Echo", methods)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def call_methods(url, slow):
    import grpc

    with grpc.insecure_channel(url.removeprefix("http://"), [("grpc.enable_http_proxy", 0)]) as channel:

        def unary(name, content, timeout=None):
            try:
                return digest(channel.unary_unary(f"/larder.Echo/{name}")(content, timeout=timeout))
            except grpc.RpcError as error:
                return f"{error.code().value[0]} {error.details()}"

        if slow:
            return say("shutdown", unary("Slow", b"x"))
        say("unary", unary("Unary", b"one"), unary("Unary", b"\7" * (1 << 20)))
        parts = [b"a", b"b", b"c"]
        down = b",".join(channel.unary_stream("/larder.Echo/Down")(b"3")).decode()
        up = channel.stream_unary("/larder.Echo/Up")(iter(parts)).decode()
        both = b",".join(channel.stream_stream("/larder.Echo/Both")(iter(parts))).decode()
        say("streams", down, up, both)
        say("status", unary("Fail", b"x"), unary("Never", b"x", timeout=1).split()[0])


match sys.argv[1:]:
    case ["websocket-server"]:
        asyncio.run(serve_websockets())
    case ["grpc-server"]:
        serve_grpc()
    case ["websockets", url, *slow]:
        asyncio.run(exchange_messages(url, slow))
    case ["grpcio", url, *slow]:
        call_methods(url, slow)
