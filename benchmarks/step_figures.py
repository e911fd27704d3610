"""Figures of timed train steps, and their table: for train_step.py."""

import numpy as np


def figures(seconds, examples: float, real: float, padded: float, flops: float, peak: float):
    """What a list of step times says.

    Args:
      seconds: of each step (of buckets: one step of each, weighted by their shares).
      examples, real, padded, flops: of a step: rows, tokens, tokens with padding, operations.
      peak: operations a second.
    """
    median = float(np.median(seconds))
    return dict(
        step_ms_p50=1e3 * median,
        step_ms_p95=1e3 * float(np.percentile(seconds, 95)),
        examples_per_second=examples / median,
        real_tokens_per_second=real / median,
        padded_tokens_per_second=padded / median,
        teraflops_per_step=flops / 1e12,
        teraflops_per_second=flops / median / 1e12,
        mfu=flops / median / peak,
    )


def ratios(rows: list[dict]) -> list[str]:
    """Lines that compare ours with the peer, of the rows of one model and size."""
    found = {(row["side"], row["kind"]): row for row in rows}
    name = f"{rows[0]['model']} {rows[0]['size']}"
    lines = []
    if ("peer", "full") in found:
        ours, peer = found["ours", "full"], found["peer", "full"]
        for what, key in (
            ("examples/s at the same padded rows", "examples_per_second"),
            ("operations/s at the same padded rows", "teraflops_per_second"),
        ):
            lines.append(f"{name}: {ours[key] / peer[key]:.2f} × the peer in {what}")
        kind = "buckets" if ("ours", "buckets") in found else "full"
        key = "real_tokens_per_second"
        ratio = found["ours", kind][key] / found["peer", "buckets"][key]
        lines.append(
            f"{name}: {ratio:.2f} × the peer in real tokens/s: our {kind}, the peer's batches "
            "padded to their longest"
        )
    return lines


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    head = (
        "model", "rows", "examples/s", "tokens/s real", "padded", "step ms p50", "p95",
        "compile s", "memory GB", "TFLOP/s", "MFU",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in rows:
        memory = row["device_peak_gb"] or row["program_gb"]
        padding = 1 - row["real_tokens_per_second"] / row["padded_tokens_per_second"]
        cells = (
            f"{row['model']} {row['size']}, {row['side']}",
            f"{row['kind']}, {padding:.0%} padding",
            f"{row['examples_per_second']:,.1f}",
            f"{row['real_tokens_per_second']:,.0f}",
            f"{row['padded_tokens_per_second']:,.0f}",
            f"{row['step_ms_p50']:,.1f}",
            f"{row['step_ms_p95']:,.1f}",
            f"{row['compile_seconds']:.1f}" if row["compile_seconds"] else "",
            f"{memory:.2f}" if memory else "",
            f"{row['teraflops_per_second']:.3g}",
            f"{row['mfu']:.1%}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
