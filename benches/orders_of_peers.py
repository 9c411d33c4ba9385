#!/usr/bin/env python3
"""Which orders do other loaders really deliver? Scores the lists of ids that they wrote, and ours, by `loader report`.

  benches/orders_of_peers.py IDS [--data DIR] [--shard 128] [--batch 256]

IDS is a folder of NAME.e0.txt and NAME.e1.txt, one id a line, two epochs of one data set in source order (ids from zero).
So many ids in a row count as a shard, the same for all. With --data, a data set packed by prep with as many samples, the
loader's own orders are beside them. Needs `cargo build --release -p loader-cli`; writes benches/results/orders-of-peers.md.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
LOADER = ROOT / "target" / "release" / "loader"


def report(*words):
    done = subprocess.run([LOADER, "report", "--json", *map(str, words)], capture_output=True, text=True)
    if done.returncode == 2:
        return None, done.stderr.strip()
    return json.loads(done.stdout), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--shard", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for first in sorted(arguments.ids.glob("*.e0.txt")):
            name = first.name.removesuffix(".e0.txt")
            files = []
            for epoch in range(2):
                ids = [int(line) for line in (arguments.ids / f"{name}.e{epoch}.txt").read_text().split()]
                file = pathlib.Path(folder) / f"{name}.{epoch}"
                file.write_text("".join(f"{number // arguments.shard:03d}\t{number:08d}\n" for number in ids))
                files.append(file)
            rows.append((name, len(ids), *report("--batch-size", arguments.batch, "--keys", *files)))
    if arguments.data:
        for order in ["global", "block:16x2048", "block:16x128", "shard-buffer:1000", "none"]:
            rows.append((f"ours, {order}", None, *report(arguments.data, "--shuffle", order, "--epochs", 2, "--batch-size", arguments.batch)))
    write(arguments, rows)


COLUMNS = [("shards_per_batch", 1), ("pair_repeat", 2), ("batch_variance", 2), ("source_correlation", 3), ("epoch_correlation", 3)]


def write(arguments, rows):
    lines = ["# The orders that loaders really deliver\n"]
    lines.append("Two epochs each of the same data set in source order; scored by `loader report` beside 20 ideal permutations.")
    lines.append(f"For others {arguments.shard} ids in a row count as a shard and batches of {arguments.batch} are cut from the lists, whatever they are in the loader.\n")
    lines.append("| loader | " + " | ".join(name.replace("_", " ") for name, _ in COLUMNS) + " | never delivered | verdict |")
    lines.append("| --- |" + " --- |" * (len(COLUMNS) + 2))
    for name, _, scored, problem in rows:
        if scored is None:
            lines.append(f"| {name} | not scored: {problem} |")
            continue
        metrics = {metric["name"]: metric for metric in scored["metrics"]}
        cells = [f"{metrics[name]['value']:.{digits}f}" if name in metrics else "–" for name, digits in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {scored['coverage']['never']} | {scored['verdict']} |")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines += ["", f"- commit: {commit}", "- command: `benches/orders_of_peers.py IDS --data DIR`", ""]
    text = "\n".join(lines)
    (HERE / "results" / "orders-of-peers.md").write_text(text)
    print(text)


main()
