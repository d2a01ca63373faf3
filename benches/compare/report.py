"""Tables and a plot of what was measured, and nothing that was not."""

import statistics
from html import escape


def median(rounds, figure):
    return statistics.median(getattr(one, figure) for one in rounds)


def spread(rounds, figure):
    """Half the distance from the least to the most, in percent of the median."""
    values = [getattr(one, figure) for one in rounds]
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle * 100 if middle else 0


def table(scenario, rounds, latencies, base):
    """`rounds` by name; ratios are to `base`, by processor time."""
    lines = [f"### {scenario}", "",
             "| server | CPU µs a request | ratio | spread | requests/s | p50 ms | p99 ms | p99.9 ms | to upstream | errors |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    reference = median(rounds[base], "cpu") if base in rounds else None
    for name, ones in rounds.items():
        cpu = median(ones, "cpu")
        ratio = f"{cpu / reference:.2f}" if reference else "–"
        late = latencies.get(name)
        late = [f"{getattr(late, p) / 1000:.2f}" for p in ("p50", "p99", "p999")] if late else ["–"] * 3
        lines.append(f"| {name} | {cpu:.2f} | {ratio} | ±{spread(ones, 'cpu'):.0f} % | {median(ones, 'rate'):,.0f} | "
                     + " | ".join(late) + f" | {median(ones, 'reached'):.0f} % | {sum(one.errors for one in ones)} |")
    return "\n".join(lines) + "\n"


def plot(scenario, rounds):
    """Bars of processor time, as SVG."""
    width, row, left = 760, 26, 250
    figures = [(name, median(ones, "cpu"), spread(ones, "cpu")) for name, ones in rounds.items()]
    most = max(cpu * (1 + off / 100) for _, cpu, off in figures)
    scale = (width - left - 90) / most
    parts = []
    for at, (name, cpu, off) in enumerate(figures):
        y, end = 40 + at * row, left + cpu * scale
        colour = "#2a6f97" if name.startswith("larder") else "#9a9a9a"
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{cpu * scale:.1f}" height="18" fill="{colour}"/>')
        parts.append(f'<line x1="{end - cpu * scale * off / 100:.1f}" x2="{end + cpu * scale * off / 100:.1f}" '
                     f'y1="{y + 9}" y2="{y + 9}" stroke="#222"/>')
        parts.append(f'<text x="{end + cpu * scale * off / 100 + 6:.1f}" y="{y + 14}">{cpu:.2f}</text>')
    height = 50 + len(figures) * row
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="8" y="22" font-weight="bold">{escape(scenario)}: µs of CPU a request (median, least to most)</text>'
            + "".join(parts) + "</svg>\n")
