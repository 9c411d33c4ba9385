#!/usr/bin/env python3
"""How long is a training step beside PyTorch's, in one run?

  benches/train_peers.py PEER --python PYTHON [--rounds 5] [--steps 3] [--threads 2] [--models LIST]

PEER is a program that times one optimisation step of a model on noise and prints a line of JSON with `step_s_median` and
`peak_rss_mb` (`--model NAME --batch N --steps N --warmup N --threads N [--channels-last]`); PYTHON is one with torch and
torchvision. Ours is `trainer bench` on the same sizes: ViT-S and ViT-B with text towers, and ResNet-50 with a text tower,
batch 16, f32, AdamW. Rounds alternate between both programs, since the speed of a shared machine swings; ratios are the
medians of the rounds' own. Results go to benches/results/train-peers.{md,json}. Needs `cargo build --release -p trainer`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
COMMON = ["--set", "train.chunk_size=0", "--set", "tokenizer.vocab_size=49408"]
SMALL = ["model.preset=vit-s-16", "model.embed_dim=512", "model.vision.layers=6", "model.text.layers=6"]
MODELS = {  # the peer's name: its extra arguments, our configuration's keys, ratios asked for (time, memory)
    "clip_vit_s": ([], SMALL, (1.0, 0.8)),
    "clip_vit_b": ([], ["model.preset=t2i-run"], (1.0, 0.8)),
    "clip_rn50": (["--channels-last"], ["model.preset=coco"], (1.1, 0.8)),
}


def json_of(command, env=None):
    """The JSON object that a command prints."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def peer(args, model):
    extra = MODELS[model][0]
    found = json_of([args.python, args.peer, "--model", model, "--batch", str(args.batch), "--steps", str(args.steps),
                     "--warmup", "1", "--threads", str(args.threads), *extra])
    return {"step_s": found["step_s_median"], "peak_mib": found["peak_rss_mb"], "impl": found["impl"]}


def ours(args, model):
    sets = [part for key in MODELS[model][1] for part in ("--set", key)]
    env = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    found = json_of(["target/release/trainer", "bench", "--config", "configs/clip_t2i_run1.toml", *COMMON, *sets,
                     "--set", f"data.batch_size={args.batch}", "--steps", str(args.steps), "--warmup", "1", "--json"], env)
    return {"step_s": found["seconds"]["step"], "peak_mib": found["peak_memory_bytes"] / 2**20, "phases": found["seconds"],
            "mfu": found["mfu"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default=" ".join(MODELS))
    args = parser.parse_args()
    rows, rounds = [], {}
    for model in args.models.split():
        rounds[model] = []
        for number in range(args.rounds):
            pair = {"ours": ours(args, model), "peer": peer(args, model)}
            rounds[model].append(pair)
            print(model, number, {name: (round(p["step_s"], 3), round(p["peak_mib"])) for name, p in pair.items()}, flush=True)
        pairs, asked = rounds[model], MODELS[model][2]
        of = lambda side, key: statistics.median(p[side][key] for p in pairs)
        ratio = lambda key: statistics.median(p["ours"][key] / p["peer"][key] for p in pairs)
        rows.append(f"| {model} | {of('ours', 'step_s'):.2f} | {of('peer', 'step_s'):.2f} | {ratio('step_s'):.2f} (at most {asked[0]}) "
                    f"| {of('ours', 'peak_mib'):,.0f} | {of('peer', 'peak_mib'):,.0f} | {ratio('peak_mib'):.2f} (at most {asked[1]}) "
                    f"| {statistics.median(p['ours']['mfu'] for p in pairs):.2f} |")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    impl = next(p["peer"]["impl"] for pairs in rounds.values() for p in pairs)
    text = "\n".join([
        "# A training step beside PyTorch's", "",
        f"Seconds a step (forward, backward, AdamW) at batch {args.batch}, f32, on noise in memory; medians of {args.rounds} rounds of "
        f"{args.steps} steps; ratios are medians of the rounds' own. PyTorch runs the ResNet in channels-last. MFU is of the rate of "
        "large matrix products, measured in the same process.", "",
        f"| model | trainer, s | {impl}, s | ratio asked and found | trainer, MiB | {impl}, MiB | ratio | MFU |".replace("ratio asked and found", "ratio"),
        "| --- | --- | --- | --- | --- | --- | --- | --- |", *rows, "",
        f"- machine: {cpu}, {args.threads} threads of {os.cpu_count()}, load {os.getloadavg()[0]:.2f} at the end",
        f"- date: {datetime.date.today()}, commit: {commit}",
        f"- command: `benches/train_peers.py PEER --rounds {args.rounds} --steps {args.steps} --threads {args.threads}`", ""])
    results = HERE / "results"
    (results / "train-peers.md").write_text(text)
    (results / "train-peers.json").write_text(json.dumps(rounds, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
