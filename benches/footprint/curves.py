"""The time of a hit, by how much there is of something: a table and a plot."""

import json
import statistics
import urllib.request

import load

ROUNDS = 5


def measure(lab, larder, fill, gauge, most_entries):
    """`larder` starts one, `fill` has it store what it has not; see `run`."""
    curves = {
        "routes": [(n, routes(lab, larder, n)) for n in (10, 100, 1_000, 10_000)],
        "tags of the response": [(n, tags(lab, larder, n)) for n in (1, 4, 16, 64)],
        "entries of 200 B": entries(lab, larder, fill, gauge, most_entries),
        "connections": connections(lab, larder(lab)),
        "connections, bare server": connections(lab, lab.bare("200b")),
        "live purge records": purges(lab, larder),
    }
    return table(curves), plot(curves)


def hit(lab, server, path="/hit/200b/", connections=64, keys=1000, seconds=1):
    """CPU microseconds."""
    scenario = load.Scenario("hit", path, keys=keys, connections=connections)
    ask = lambda seed: load.run(server, scenario, seconds, lab.load_core, lab.dir, lab.upstream_requests, seed)
    ask(1)
    rounds = [ask(1) for _ in range(ROUNDS)]
    if statistics.median(one.reached for one in rounds) > 2:
        raise RuntimeError(f"{path}: these were no hits")
    return statistics.median(one.cpu for one in rounds)


def routes(lab, larder, count):
    server = larder(lab, routes=count)
    cpu = hit(lab, server)
    server.stop()
    return cpu


def tags(lab, larder, count):
    """The upstream says them: each is a target that a purge may name."""
    server = larder(lab)
    cpu = hit(lab, server, f"/tags/{count}/200b/")
    server.stop()
    return cpu


def entries(lab, larder, fill, gauge, most):
    # 1,100 bytes each, as larder counts them.
    server, points = larder(lab, memory=f"{max(1_000, most * 1_200 // 10**6)}MiB"), []
    count = 1_000
    while count <= most:
        fill(lab, server, "/hit/200b/", lambda: gauge(server, "larder_stored_entries") >= count)
        # The same thousand are asked for, among more and more others.
        points.append((int(gauge(server, "larder_stored_entries")), hit(lab, server)))
        count *= 10
    server.stop()
    return points


def connections(lab, server):
    # Long enough that accepting them is a small part.
    points = [(count, hit(lab, server, connections=count, seconds=1 + count // 1_000)) for count in (10, 100, 1_000, 10_000)]
    server.stop()
    return points


def purges(lab, larder):
    server, points, purged = larder(lab), [], 0
    for count in (10, 100, 1_000, 10_000, 100_000):
        while purged < count:
            names = [f"gone-{n}" for n in range(purged, min(count, purged + 1_000))]
            purge = urllib.request.Request(f"http://127.0.0.1:{server.admin}/purge", json.dumps({"tags": names}).encode(),
                                           {"Content-Type": "application/json"})
            urllib.request.urlopen(purge, timeout=30).read()
            purged += len(names)
        points.append((count, hit(lab, server)))
    server.stop()
    return points


def table(curves):
    lines = ["| CPU µs a hit of 200 B, by | | | | | |", "|---|--:|--:|--:|--:|--:|"]
    for name, points in curves.items():
        cells = [f"{count:,}: {cpu:.2f}" for count, cpu in points]
        lines.append(f"| {name} | " + " | ".join(cells + [""] * (5 - len(cells))) + " |")
    return "\n".join(lines) + "\n"


def plot(curves):
    """One line for each, over the decades of what grows."""
    width, height, left, top = 760, 330, 60, 50
    most = max(cpu for points in curves.values() for _, cpu in points) * 1.15
    decades = max(len(str(count)) - 1 for points in curves.values() for count, _ in points)
    colours = ["#2a6f97", "#d1495b", "#6a994e", "#8e6c8a", "#c98a1b", "#777777"]

    def at(count, cpu):
        digits = len(str(count)) - 1
        across = digits + (count / 10**digits - 1) / 9
        return left + across / decades * (width - left - 190), top + (1 - cpu / most) * (height - top - 40)

    parts = ['<text x="8" y="22" font-weight="bold">µs of CPU a hit, by how much there is</text>']
    for digits in range(decades + 1):
        x = at(10**digits, 0)[0]
        parts.append(f'<text x="{x:.0f}" y="{height - 18}" text-anchor="middle" fill="#555">{10**digits:,}</text>')
    for step in range(0, int(most) + 1, max(1, int(most) // 5)):
        y = at(1, step)[1]
        parts.append(f'<line x1="{left}" x2="{width - 190}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end" fill="#555">{step}</text>')
    for number, (name, points) in enumerate(curves.items()):
        spots = [at(count, cpu) for count, cpu in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[number]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[number]}"/>' for x, y in spots]
        parts.append(f'<text x="{width - 180}" y="{top + 18 + number * 20}" fill="{colours[number]}">{name}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n")
