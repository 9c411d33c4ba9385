#!/usr/bin/env python3
"""How fast is prep, from JPEGs on disk to finished shards, beside what others do with the same pictures?

  benches/prep_speed.py WORK --pictures photos=DIR[,DIR] --pictures crops=DIR [--images 3000] [--rounds 3] [--processes 2]

Runs all peers and prep interleaved, round by round, over the same pictures (repeated to --images), and writes
benches/results/prep-speed.{md,json}: medians of images a second and of CPU milliseconds an image (user and system, of all
processes, without Python's imports; the figure to trust where a machine is shared), and the PSNR to Pillow's bicubic. WORK gets
the pictures and every data set; nothing of it belongs in the repository.

Needs: cargo build --release -p prep --example pixels_alone --bin prep (and once more with --features turbo and --target-dir
target/turbo for the engine turbo); Python with pillow and numpy; for the peers torch, torchvision, webdataset,
opencv-python-headless and simplejpeg in the Python of --python, img2dataset in that of --python-img2dataset, a C compiler and
libturbojpeg's header. What is missing is left out aloud.
"""

import argparse
import io
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile

import numpy
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SIZE = 224


def link_pictures(work, name, folders, count):
    """WORK/NAME with `count` pictures, captions.jsonl for prep and a list of paths for the others."""
    source = work / "pictures" / name
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    files = [file for folder in folders for file in sorted(pathlib.Path(folder).rglob("*.jpg"))]
    if not files:
        sys.exit(f"no *.jpg below {folders}")
    with open(source / "captions.jsonl", "w") as lines, open(source / "list.txt", "w") as paths:
        for number in range(count):
            path = source / f"{number:06d}.jpg"
            shutil.copyfile(files[number % len(files)], path)
            path.read_bytes()
            lines.write(json.dumps({"image": path.name, "caption": f"picture {number}"}) + "\n")
            paths.write(f"{path}\n")
    return source


def references(path):
    """Pillow's bicubic of the centred square, and of the square at the whole pixel before it, which some take."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    side = min(image.size)
    for whole in [False, True]:
        left, top = ((length - side) // 2 if whole else (length - side) / 2 for length in image.size)
        yield numpy.asarray(image.resize((SIZE, SIZE), Image.BICUBIC, box=(left, top, left + side, top + side)))


def psnr_of(pictures, source, most):
    """Mean and least PSNR of `pictures`, an iterable of (number, height×width×3 array)."""
    found = []
    for number, pixels in pictures:
        errors = [((pixels.astype(float) - due) ** 2).mean() for due in references(source / f"{number:06d}.jpg")]
        found.append(10 * numpy.log10(255**2 / max(min(errors), 1e-9)))
        if len(found) == most:
            break
    return (round(float(numpy.mean(found)), 1), round(float(min(found)), 1)) if found else None


def pictures_of_tars(dest):
    for tar in sorted(dest.rglob("*.tar")):
        with tarfile.open(tar) as members:
            arrays, names = {}, {}
            for member in members:
                key, extension = member.name.rsplit("/", 1)[-1].split(".", 1)
                data = members.extractfile(member).read()
                if extension == "npy":
                    arrays[key] = numpy.load(io.BytesIO(data)).transpose(1, 2, 0)
                elif extension == "jpg":
                    arrays[key] = numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
                elif extension == "json":
                    json_data = json.loads(data)
                    names[key] = json_data.get("source_id") or json_data.get("number", key)
            for key, array in arrays.items():
                name = str(names.get(key, key)).removesuffix(".jpg")
                if name.isdigit():
                    yield int(name), array


def pictures_of_blobs(dest):
    for blob in sorted(dest.glob("*.bin")):
        pixels = numpy.fromfile(blob, numpy.uint8).reshape(-1, 3, SIZE, SIZE)
        for line, array in zip(open(blob.with_suffix(".json")), pixels):
            yield json.loads(line)[0], array.transpose(1, 2, 0)


def peers(arguments, work):
    """Name → (command with SOURCE and DEST in it, reader of what it wrote)."""
    processes = str(arguments.processes)
    found, missing = {}, []
    for label, folder in [("rust", arguments.target), ("turbo", arguments.target_turbo)]:
        prep, alone = (pathlib.Path(folder) / name for name in ["release/prep", "release/examples/pixels_alone"])
        if not prep.exists() or not alone.exists():
            missing.append(f"engine {label}: no {prep} with its example")
            continue
        job = f"--dataset folder --from SOURCE --out DEST/out --shards 4 --val 0 --threads {processes} --engine {label}".split()
        found[f"prep, engine {label}"] = ([str(prep), *job], pictures_of_tars)
        found[f"engine {label} alone, nothing written"] = ([str(alone), "SOURCE", processes, label, "exact"], None)
        if label == "turbo":
            found["prep, engine turbo, --decode fast"] = ([str(prep), *job, "--decode", "fast"], pictures_of_tars)
    writers = str(HERE / "peers/python_writers.py")
    for name, python, module, peer, read in [
        ("torchvision antialiased bicubic → webdataset ShardWriter", arguments.python, "torchvision, webdataset", "torchvision", pictures_of_tars),
        ("libjpeg-turbo scaled + cv2 AREA → blob", arguments.python, "cv2, simplejpeg", "tjcv2", pictures_of_blobs),
        ("img2dataset (JPEG out)", arguments.python_img2dataset, "img2dataset", "img2dataset", pictures_of_tars),
    ]:
        if subprocess.run([python, "-W", "ignore", "-c", f"import {module}"], capture_output=True).returncode == 0:
            found[name] = ([python, "-W", "ignore", writers, peer, "SOURCE/list.txt", "DEST", processes], read)
        else:
            missing.append(f"{name}: {python} cannot import {module}")
    loop = work / "decode_loop"
    build = ["cc", "-O3", str(HERE / "peers/decode_loop.c"), "-o", str(loop), "-lturbojpeg"]
    if shutil.which("cc") and subprocess.run(build, capture_output=True).returncode == 0:
        found["C loop: libjpeg-turbo decodes to RGB, nothing else"] = ([str(loop), "SOURCE/list.txt", processes], None)
    else:
        missing.append("C loop: cc or libturbojpeg's header is missing")
    return found, missing


def run(command, source, dest):
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir(parents=True)
    command = [word.replace("SOURCE", str(source)).replace("DEST", str(dest)) for word in command]
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), os.times().elapsed
    output = subprocess.run(command, capture_output=True, text=True)
    wall, after = os.times().elapsed - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    if output.returncode != 0:
        print(f"FAILED: {' '.join(command)}\n{output.stderr[-2000:]}", flush=True)
        return None
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    try:
        told = json.loads(output.stdout.strip().split("\n")[-1])
        wall, cpu = told["wall_s"], told.get("cpu_s", cpu)
    except (ValueError, KeyError, TypeError):
        pass  # prep: its whole life
    return wall, cpu


def table(rows, name, base):
    """Markdown of one set's rows; CPU beside the first peer's."""
    lines = ["| what | images/s | CPU ms/image | CPU of torchvision's / its own | PSNR mean / least, dB |", "| --- | --- | --- | --- | --- |"]
    for peer, row in rows.items():
        ratio = f"{base / row['cpu_ms']:.2f}" if base else "-"
        psnr = f"{row['psnr'][0]} / {row['psnr'][1]}" if row.get("psnr") else "-"
        lines.append(f"| {peer} | {row['images_s']:.0f} | {row['cpu_ms']:.2f} | {ratio} | {psnr} |")
    return f"## {name}\n\n" + "\n".join(lines) + "\n"


TARGETS = [
    ("prep, engine rust", "torchvision antialiased", 1.0),
    ("prep, engine rust", "engine rust alone", 0.9),
    ("prep, engine turbo", "torchvision antialiased", 1.2),
    ("prep, engine turbo", "C loop", 0.85),
    ("prep, engine turbo", "img2dataset", 2.5),
    ("prep, engine turbo, --decode fast", "libjpeg-turbo scaled + cv2", 1.1),
]


def ratios(measured):
    """Markdown of what is asked: images/s over the peer's of the same round, the median of the rounds."""
    lines = ["| what | over | asked | median of the rounds | least … most |", "| --- | --- | --- | --- | --- |"]
    for what, over, asked in TARGETS:
        peer = next((name for name in measured if name.startswith(over)), None)
        pairs = [b[0] / a[0] for a, b in zip(measured.get(what, []), measured.get(peer, []))]
        if pairs:
            lines.append(f"| {what} | {peer} | {asked} | {statistics.median(pairs):.2f} | {min(pairs):.2f} … {max(pairs):.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--pictures", action="append", required=True, metavar="NAME=DIR[,DIR]")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--psnr-images", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--target", default=str(ROOT / "target"))
    parser.add_argument("--target-turbo", default=str(ROOT / "target/turbo"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--python-img2dataset", default=sys.executable)
    parser.add_argument("--only", default="", help="only peers whose name has this in it")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    found, missing = peers(arguments, arguments.work)
    found = {name: peer for name, peer in found.items() if arguments.only in name}
    for line in missing:
        print(f"left out: {line}", flush=True)
    sets = {}
    for pictures in arguments.pictures:
        name, folders = pictures.split("=", 1)
        sets[name] = link_pictures(arguments.work, name, folders.split(","), arguments.images)
    measured = {name: {peer: [] for peer in found} for name in sets}
    quality = {name: {} for name in sets}
    for number in range(arguments.rounds):
        for name, source in sets.items():
            for peer, (command, read) in found.items():
                dest = arguments.work / "out"
                result = run(command, source, dest)
                if result is None:
                    continue
                measured[name][peer].append(result)
                if number == 0 and read:
                    quality[name][peer] = psnr_of(read(dest), source, arguments.psnr_images)
                print(f"round {number + 1}, {name}, {peer}: {arguments.images / result[0]:.0f} images/s, {result[1] / arguments.images * 1e3:.2f} CPU ms", flush=True)
    report(arguments, sets, measured, quality, missing)


def report(arguments, sets, measured, quality, missing):
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    command = "benches/prep_speed.py WORK " + " ".join(f"--pictures {name}=…" for name in sets) + f" --images {arguments.images} --rounds {arguments.rounds}"
    text = "# prep beside its peers\n\nJPEGs on disk (page cache warm) → 224×224 uint8 in shards, "
    text += f"{arguments.processes} threads or processes, medians of {arguments.rounds} interleaved rounds.\n\n"
    results = {}
    for name in sets:
        rows = {}
        for peer, rounds in measured[name].items():
            if rounds:
                wall, cpu_s = (statistics.median(values) for values in zip(*rounds))
                rows[peer] = {"images_s": arguments.images / wall, "cpu_ms": cpu_s / arguments.images * 1e3, "psnr": quality[name].get(peer), "rounds": rounds}
        base = next((row["cpu_ms"] for peer, row in rows.items() if peer.startswith("torchvision")), None)
        text += table(rows, f"{name}: {arguments.images} pictures", base) + "\n" + ratios(measured[name]) + "\n"
        results[name] = rows
    text += "".join(f"- left out: {line}\n" for line in missing)
    text += f"- machine: {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end\n- commit: {commit}\n- command: `{command}`\n"
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "prep-speed.md").write_text(text)
    record = {"machine": cpu, "cores": os.cpu_count(), "load": os.getloadavg()[0], "commit": commit, "command": command, "sets": results}
    (arguments.results / "prep-speed.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
