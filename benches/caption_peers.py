#!/usr/bin/env python3
"""How long do a captioner's training step and its writing take beside PyTorch's, in one run?

  benches/caption_peers.py --python PYTHON --lm FILE.gguf [--rounds 5] [--steps 2] [--threads 2] [--models LIST]

PYTHON is one with torch and transformers; it runs benches/peers/captioners.py. FILE is SmolLM2-135M in GGUF, for `lora`
(PyTorch has a model of its sizes with random weights). Ours is `trainer bench` on the same sizes over 49 patch tokens of
256 numbers, captions of 42 tokens, f32, AdamW; writing is greedy to the full length, and ten DDIM steps for `diffusion`.
Rounds alternate between both programs, since the speed of a shared machine swings; ratios are the medians of the rounds'
own. Results go to benches/results/caption-peers.{md,json}. Needs `cargo build --release -p trainer`.
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
SIZES = ["model.preset=small", "caption.tower=none"]
MODELS = {  # its batch, our configuration's keys
    "prefix": (32, ["tokenizer.vocab_size=8192"]),
    "lora": (8, []),
    "diffusion": (32, ["tokenizer.vocab_size=8192", "caption.diffusion.self_conditioning=false", "decode.guidance=1.0"]),
}
TASKS = {"step": "at most 1.1", "write": "at most 0.5"}


def json_of(command, env=None):
    """The JSON object that a command prints."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def peer(args, model, task):
    found = json_of([args.python, "benches/peers/captioners.py", "--model", model, "--task", task, "--batch", str(MODELS[model][0]),
                     "--steps", str(args.steps), "--threads", str(args.threads)])
    return {"s": found["seconds"], "tokens_per_s": found["tokens_per_s"], "peak_mib": found["peak_mib"], "impl": found["impl"]}


def ours(args, model, task):
    batch, keys = MODELS[model]
    keys = [*SIZES, *keys, f"data.batch_size={batch}"] + ([f"caption.lm.source={args.lm}"] if model == "lora" else [])
    sets = [part for key in keys for part in ("--set", key)]
    env = dict(os.environ, RAYON_NUM_THREADS=str(args.threads))
    found = json_of(["target/release/trainer", "bench", "--config", f"configs/caption_{model}.toml", *sets, "--steps", str(args.steps),
                     "--warmup", "1", "--json", *(["--write"] if task == "write" else [])], env)
    seconds = found["seconds"] if task == "write" else found["seconds"]["step"]
    return {"s": seconds, "tokens_per_s": found.get("tokens_per_s"), "peak_mib": found["peak_memory_bytes"] / 2**20}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3")
    parser.add_argument("--lm", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default=" ".join(MODELS))
    args = parser.parse_args()
    rows, rounds = [], {}
    for model in args.models.split():
        for task, asked in TASKS.items():
            pairs = rounds[f"{model} {task}"] = []
            for number in range(args.rounds):
                pair = {"ours": ours(args, model, task), "peer": peer(args, model, task)}
                pairs.append(pair)
                print(model, task, number, {name: (round(p["s"], 3), round(p["peak_mib"])) for name, p in pair.items()}, flush=True)
            of = lambda side, key: statistics.median(p[side][key] for p in pairs)
            ratio = lambda key: statistics.median(p["ours"][key] / p["peer"][key] for p in pairs)
            speed = "" if task == "step" else f"{of('ours', 'tokens_per_s'):,.0f}, {of('peer', 'tokens_per_s'):,.0f}"
            rows.append(f"| {model} | {task} | {MODELS[model][0]} | {of('ours', 's'):.2f} | {of('peer', 's'):.2f} | {ratio('s'):.2f} ({asked}) | {speed} "
                        f"| {of('ours', 'peak_mib'):,.0f} | {of('peer', 'peak_mib'):,.0f} |")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    impl = next(p["peer"]["impl"] for pairs in rounds.values() for p in pairs)
    text = "\n".join([
        "# A captioner's step and writing beside PyTorch's", "",
        "Seconds of a training step (forward, backward, AdamW) and of writing a batch of captions to the full length, f32, on noise in memory: 49 "
        f"patch tokens of 256 numbers, captions of 42 tokens, sizes of `configs/caption_*.toml`; medians of {args.rounds} rounds of {args.steps}; "
        "ratios are medians of the rounds' own. Tokens a second are ours, PyTorch's.", "",
        f"| model | task | batch | trainer, s | {impl}, s | ratio | tokens/s | trainer, MiB | PyTorch, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |", *rows, "",
        f"- machine: {cpu}, {args.threads} threads of {os.cpu_count()}, load {os.getloadavg()[0]:.2f} at the end",
        f"- date: {datetime.date.today()}, commit: {commit}",
        f"- command: `benches/caption_peers.py --lm SmolLM2-135M-Instruct.Q4_1.gguf --rounds {args.rounds} --steps {args.steps} --threads {args.threads}`", ""])
    results = HERE / "results"
    (results / "caption-peers.md").write_text(text)
    (results / "caption-peers.json").write_text(json.dumps(rounds, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
