#!/usr/bin/env python3
"""What prep takes in memory and time at sizes that grow: peak resident memory and seconds of

- packing 1,000, 20,000 and 200,000 procedural scenes at 64 pixels,
- listing and planning 2,000,000 samples of a list (`--dry-run`).

    cargo build --release -p prep && benches/prep_scale.py WORK [--prep target/release/prep]

WORK is a folder for what it makes, about 3 GB, removed at the end. Results go to benches/results/prep-scale.md.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def run(command):
    """Seconds and peak resident MB of a command that must succeed."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with status {status}\n{out}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, out


def packing(prep, work, samples):
    out = work / f"shapes-{samples}"
    seconds, peak, _ = run(
        [prep, "--limit", str(samples), "--val", "100", "--size", "64", "--shards", "16", "--out", out]
    )
    shutil.rmtree(out)
    return {"what": f"packing {samples:,} scenes at 64 pixels", "samples": samples + 100, "seconds": seconds, "peak_mb": peak}


def planning(prep, work, samples):
    path = work / "list.jsonl"
    with open(path, "w") as file:
        for number in range(samples):
            row = {"image": f"folder-{number % 997:03}/picture-{number:09}.jpg", "captions": [f"a caption of picture {number}, long enough"]}
            file.write(json.dumps(row) + "\n")
    command = [prep, "--dataset", "jsonl", "--from", path, "--shards", "512", "--dry-run", "--out", work / "none"]
    seconds, peak, out = run(command)
    assert f"{samples - 10_000} samples" in out and "10000 samples" in out, out
    path.unlink()
    return {"what": f"listing and planning {samples:,} samples of a list", "samples": samples, "seconds": seconds, "peak_mb": peak}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--prep", default=str(HERE.parent / "target/release/prep"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = [packing(arguments.prep, arguments.work, samples) for samples in (1_000, 20_000, 200_000)]
    rows.append(planning(arguments.prep, arguments.work, 2_000_000))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    lines = [
        "# prep at sizes that grow",
        "",
        "| what | seconds | µs a sample | peak resident MB |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        each = row["seconds"] / row["samples"] * 1e6
        lines.append(f"| {row['what']} | {row['seconds']:.2f} | {each:.0f} | {row['peak_mb']:.0f} |")
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    lines += [
        "",
        f"- machine: {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        f"- commit: {commit}",
        "- command: `benches/prep_scale.py WORK`",
    ]
    text = "\n".join(lines) + "\n"
    (HERE / "results/prep-scale.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
