"""The ladder as a picture: latency and what became of the requests, by the rate at which they came.

matplotlib is a dependency of the benchmarks alone, and imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.climb.steps import Step, knee

_COLOURS = ("#1b6ca8", "#2e8b57", "#c1440e")


def draw(path: Path, ladders: Mapping[str, Sequence[Step]], delay_ms: int) -> None:
    """Write one picture, as SVG. The same steps give the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415  # for who draws alone
    from matplotlib.figure import Figure  # noqa: PLC0415  # likewise

    with mpl.rc_context({"svg.hashsalt": "kakehi", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 4), layout="constrained")
        waiting, ends = figure.subplots(1, 2)
        for (name, steps), colour in zip(ladders.items(), _COLOURS, strict=False):
            rates = [step.rate for step in steps]
            for of, style in (("p50", "-"), ("p99", "--")):
                values = [getattr(step.outcome.served, of) / 1000 for step in steps]
                waiting.plot(rates, values, style, color=colour, label=f"{name} {of}")
            at_knee = knee(steps)
            if at_knee is not None:
                height = at_knee.outcome.served.p50 / 1000
                waiting.plot([at_knee.rate], [height], "o", color=colour)
            served = [step.outcome.served_per_s for step in steps]
            lost = [step.lost * step.outcome.arrivals_per_s for step in steps]
            ends.plot(rates, served, "-", color=colour, label=f"{name} served")
            ends.plot(rates, lost, ":", color=colour, label=f"{name} not served")
        waiting.set(xscale="log", yscale="log", xlabel="requests due a second", ylabel="ms")
        ends.set(xscale="log", xlabel="requests due a second", ylabel="requests a second")
        waiting.set_title(f"Latency, backend {delay_ms} ms away (dot: knee)")
        ends.set_title("What became of them")
        for axes in (waiting, ends):
            axes.grid(visible=True, which="major", alpha=0.3)
            axes.legend(fontsize="small")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
