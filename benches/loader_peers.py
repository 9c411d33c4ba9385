#!/usr/bin/env python3
"""How fast is the loader beside what others use, on the same pictures and in one run?

  benches/loader_peers.py ARENA --tensors DIR --jpegs DIR [--rounds 5] [--workers 2] [--peers LIST] [--webshart 'PYTHON']

ARENA is a folder with `arena/load.py`, a Python in `venv/` and each peer's copy of one data set, under one contract: shuffled
batches of 256 at 224×224 in the consumer's memory, uint8 and then normalised float32, five captions a sample, the page cache
warm, the first epoch; memory that a loader uses again has been touched before. DIR are the same pictures packed by prep
(`--store tensor`, `--store jpeg`). Rounds alternate between all programs; medians go to benches/results/loader-peers.{md,json}.
spdl is measured without workers too, where it is better. Needs `cargo build --release -p benches`, gcc with libdeflate for
the C loops, and for webshart a Python (3.12 or later) that has it. What is missing is left out aloud.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TENSOR_PEERS = "memthr:ring spdl memmap ffcv dali wids wds mds:py1e grain"
JPEG_PEERS = "memthr:ring ffcv dali wds mds:py1e litdata"


def line_of(command, where=None, env=None, limit=120):
    """The last line of JSON that a command prints, or why there is none."""
    try:
        done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=limit)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return json.loads(line), None
    return None, (done.stderr.strip().splitlines() or ["no output"])[-1]


def read(folder):
    """Reads a folder's files front to back, as the peers' own program does before each of its runs."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def warm(folder):
    """Drops a folder's files from the page cache and reads them front to back, so that all lie there in the same way: in large
    pieces, as after a download or a copy, and not in the small ones of whoever wrote them last."""
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read(folder)


def compile_loops(folder):
    made = {}
    for name, source, libraries in [
        ("gather_crc", HERE / "peers" / "gather_crc.c", ["-ldeflate"]),
    ]:
        program = folder / name
        done = subprocess.run(["gcc", "-O3", "-march=native", "-fopenmp", str(source), "-o", str(program), *libraries])
        if done.returncode == 0:
            made[name] = program
        else:
            print(f"SKIPPED: {name} does not compile here", file=sys.stderr)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arena", type=pathlib.Path)
    parser.add_argument("--tensors", type=pathlib.Path, required=True)
    parser.add_argument("--jpegs", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tensor-peers", default=TENSOR_PEERS)
    parser.add_argument("--jpeg-peers", default=JPEG_PEERS)
    parser.add_argument("--webshart", help="a command that runs a Python with webshart")
    parser.add_argument("--webshart-data", help="its WebDataset shards, as that Python sees them")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "loader-peers")
    arguments = parser.parse_args()
    arena = arguments.arena.resolve()
    env = {**os.environ, "ARENA_ROOT": str(arena)}
    python = str(arena / "venv" / "bin" / "python")
    blob = arena / "data" / "ds" / "memmap_raw" / "00.bin"
    jobs = []

    def ours(name, data, *words):
        jobs.append((name, [str(ROOT / "target" / "release" / "arena"), str(data), *words], None))

    with tempfile.TemporaryDirectory() as folder:
        loops = compile_loops(pathlib.Path(folder))
        workers = str(arguments.workers)
        for check in ["always", "first", "never"]:
            ours(("raw", f"ours, --check {check}"), arguments.tensors, "raw", workers, check)
        ours(("jpeg", "ours, --check always"), arguments.jpegs, "jpeg", workers, "always")
        for fmt, peers in [("raw", arguments.tensor_peers), ("jpeg", arguments.jpeg_peers)]:
            for peer in peers.split():
                for count in sorted({"0", workers}) if peer == "spdl" else [workers]:
                    words = ["--peer", peer, "--fmt", fmt, "--workers", count]
                    for decoder in ["tj"] if fmt == "jpeg" else [""]:
                        decoding = ["--decoder", decoder] if decoder else []
                        jobs.append(((fmt, f"{peer}, {count} workers"), [python, "arena/load.py", *words, *decoding], arena))
        if arguments.webshart:
            command = [*shlex.split(arguments.webshart), arguments.webshart_data, workers]
            jobs.append((("raw", "webshart"), command, None))
        if "gather_crc" in loops:
            jobs.append((("limit", "C: gather, gather + CRC-32"), [str(loops["gather_crc"]), workers, str(blob)], None))
        if (arena / "arena" / "phys" / "phys").exists():
            jobs.append((("limit", "C: phys"), [str(arena / "arena" / "phys" / "phys"), workers, str(blob)], None))
        for data in [arguments.tensors, arguments.jpegs, arena / "data" / "ds"]:
            warm(data)
        results, missing = {}, {}
        for number in range(arguments.rounds):
            for name, command, where in jobs:
                if missing.get(name, 0) >= 2:
                    continue
                if name[1].startswith("ours"):
                    read(arguments.tensors if name[0] == "raw" else arguments.jpegs)
                if name[0] == "limit":
                    read(blob.parent)
                line, problem = line_of(command, where, env)
                if line is None:
                    missing[name] = missing.get(name, 0) + 1
                    print(f"round {number}: {name}: {problem}", file=sys.stderr)
                else:
                    results.setdefault(name, []).append(line)
                    print(f"round {number}: {name}: {line.get('u8_sps')} {line.get('f32_sps')}", file=sys.stderr)
    write(arguments, results, missing)


def median(lines, field):
    values = [line[field] for line in lines if line.get(field) is not None]
    return statistics.median(values) if values else None


def paired(results, one, other, field, other_field=None):
    """The median of the rounds' ratios: a shared machine swings from minute to minute."""
    ratios = [a[field] / b[other_field or field] for a, b in zip(results.get(one, []), results.get(other, []))]
    return statistics.median(ratios) if ratios else None


def write(arguments, results, missing):
    def cell(value, digits=0):
        return "–" if value is None else f"{value:,.{digits}f}"

    lines = ["# The loader beside others\n"]
    lines.append(f"Medians of {arguments.rounds} rounds, {arguments.workers} threads or workers, batches of 256 at 224×224, page cache warm, first epoch.\n")
    lines += ["| data | what | u8, samples/s | f32, samples/s | u8, CPU ms a sample | first batch, s |", "| --- | --- | --- | --- | --- | --- |"]
    for (fmt, name), rounds in results.items():
        if fmt != "limit":
            columns = [cell(median(rounds, "u8_sps")), cell(median(rounds, "f32_sps")), cell(median(rounds, "u8_cpu_ms"), 4), cell(median(rounds, "ttfb_s"), 3)]
            lines.append(f"| {fmt} | {name} | " + " | ".join(columns) + " |")
    crc, phys = ("limit", "C: gather, gather + CRC-32"), ("limit", "C: phys")
    lines += ["", "| limit | samples/s |", "| --- | --- |"]
    for name, key, what in [
        (crc, "gather_u8_img_s", "C: gather"),
        (crc, "gather_crc_u8_img_s", "C: gather and CRC-32 (libdeflate)"),
        (phys, "gather_u8_img_s", "C: gather (phys)"),
        (phys, "gather_norm_f32_img_s", "C: gather and normalise (phys)"),
    ]:
        lines.append(f"| {what} | {cell(median(results.get(name, []), key))} |")
    always, first = ("raw", "ours, --check always"), ("raw", "ours, --check first")
    ring = ("raw", f"memthr:ring, {arguments.workers} workers")
    jpeg = ("jpeg", "ours, --check always")
    lines += ["", "| ratio, median of the rounds' own | asked | found |", "| --- | --- | --- |"]

    def ratio(what, asked, value):
        lines.append(f"| {what} | {asked} | {cell(value, 2)} |")

    ratio("u8, always / memthr:ring", 2, paired(results, always, ring, "u8_sps"))
    ratio("f32, always / memthr:ring", 3, paired(results, always, ring, "f32_sps"))
    ratio("u8, always / C gather and CRC-32", 0.85, paired(results, always, crc, "u8_sps", "gather_crc_u8_img_s"))
    ratio("u8, first / C gather (phys)", 0.7, paired(results, first, phys, "u8_sps", "gather_u8_img_s"))
    ratio("f32, always / C gather and normalise (phys)", 0.7, paired(results, always, phys, "f32_sps", "gather_norm_f32_img_s"))
    for fmt, one, field in [("raw", always, "u8_sps"), ("raw", always, "f32_sps"), ("jpeg", jpeg, "u8_sps"), ("jpeg", jpeg, "f32_sps")]:
        released = {
            name: median(rounds, field) for name, rounds in results.items()
            if name[0] == fmt and not name[1].startswith(("ours", "memthr", "memmap")) and median(rounds, field)
        }
        if released:
            best = max(released, key=released.get)
            asked = 1.3 if fmt == "jpeg" else "–"
            ratio(f"{fmt}, {field[:-4]}, always / best released peer ({best[1]})", asked, paired(results, one, best, field))
    for name in missing:
        lines.append(f"\nNot measured: {name[1]} on {name[0]}." if name not in results else "")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    lines += ["", f"- machine: {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the end", f"- commit: {commit}",
              f"- command: `benches/loader_peers.py ARENA --tensors DIR --jpegs DIR --rounds {arguments.rounds} --workers {arguments.workers}`", ""]
    text = "\n".join(line for line in lines)
    arguments.out.with_suffix(".md").write_text(text)
    kept = [{"data": name[0], "what": name[1], "rounds": rounds} for name, rounds in results.items()]
    arguments.out.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    print(text)


main()
