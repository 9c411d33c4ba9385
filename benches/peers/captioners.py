#!/usr/bin/env python3
"""The captioners in PyTorch, timed on noise: a training step, or writing captions with a key-value cache.

  benches/peers/captioners.py --model prefix|lora|diffusion --task step|write [--batch N] [--steps N] [--threads N]

The same networks and sizes as configs/caption_*.toml over 49 patch tokens of 256 numbers, f32, AdamW, written as a person who
knows PyTorch would: fused attention, no work behind what is asked for. lora is a llama of SmolLM2-135M's sizes with random
weights, its adapters added to frozen linear layers. Prints a line of JSON.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

PATCHES, SEEN, CONTEXT = 49, 256, 42


class Block(nn.Module):
    """A pre-norm block; `cache` holds keys and values of earlier tokens."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, causal, cache=None):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            if "k" in cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
            cache["k"], cache["v"] = k, v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal and t > 1)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))


class Prefix(nn.Module):
    """configs/caption_prefix.toml with a vocabulary of 8,192."""

    def __init__(self, vocab=8192, width=512, layers=3, heads=2):
        super().__init__()
        self.mapper = nn.Sequential(nn.Linear(SEEN, width), nn.GELU(), nn.Linear(width, width))
        self.places = nn.Parameter(torch.randn(PATCHES, width) * 0.02)
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Parameter(0.01 * torch.randn(CONTEXT, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def loss(self, features, ids, targets):
        x = torch.cat([self.mapper(features) + self.places, self.tokens(ids) + self.positions[:ids.shape[1]]], 1)
        for block in self.blocks:
            x = block(x, True)
        hidden = self.ln(x[:, PATCHES:])
        return F.cross_entropy((hidden @ self.tokens.weight.t()).flatten(0, 1), targets.flatten())

    @torch.inference_mode()
    def write(self, features, count):
        caches = [{} for _ in self.blocks]
        start = torch.zeros(features.shape[0], 1, dtype=torch.long)
        x = torch.cat([self.mapper(features) + self.places, self.tokens(start) + self.positions[:1]], 1)
        for place in range(1, count + 1):
            for block, cache in zip(self.blocks, caches):
                x = block(x, True, cache)
            logits = self.ln(x[:, -1]) @ self.tokens.weight.t()
            logits[:, :2] = float("-inf")
            best = logits.argmax(-1, keepdim=True)
            x = self.tokens(best) + self.positions[place:place + 1]


class LoraLinear(nn.Module):
    """A frozen layer with a correction, as PEFT computes it."""

    def __init__(self, inner, rank=8, alpha=16, dropout=0.05):
        super().__init__()
        self.inner, self.scale, self.dropout = inner, alpha / rank, nn.Dropout(dropout)
        self.a = nn.Parameter(torch.empty(rank, inner.in_features).uniform_(-1, 1) * inner.in_features ** -0.5)
        self.b = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x):
        return self.inner(x) + self.scale * F.linear(F.linear(self.dropout(x), self.a), self.b)


class Lora(nn.Module):
    """configs/caption_lora.toml."""

    def __init__(self):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM
        config = LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=8192, rope_theta=100000.0, tie_word_embeddings=True)
        self.lm = LlamaForCausalLM(config)
        self.lm.requires_grad_(False)
        for layer in self.lm.model.layers:
            for part in (layer.self_attn, layer.mlp):
                for name, inner in list(part.named_children()):
                    if isinstance(inner, nn.Linear):
                        setattr(part, name, LoraLinear(inner))
        self.mapper = nn.Sequential(nn.Linear(SEEN, 576), nn.GELU(), nn.Linear(576, 576))
        self.places = nn.Parameter(torch.randn(PATCHES, 576) * 0.02)

    def loss(self, features, ids, targets):
        x = torch.cat([self.mapper(features) + self.places, self.lm.model.embed_tokens(ids)], 1)
        hidden = self.lm.model(inputs_embeds=x, use_cache=False).last_hidden_state[:, PATCHES:]
        return F.cross_entropy(self.lm.lm_head(hidden).flatten(0, 1), targets.flatten())

    @torch.inference_mode()
    def write(self, features, count):
        start = torch.zeros(features.shape[0], 1, dtype=torch.long)
        x = torch.cat([self.mapper(features) + self.places, self.lm.model.embed_tokens(start)], 1)
        self.lm.generate(inputs_embeds=x, max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0)


class Diffusion(nn.Module):
    """configs/caption_diffusion.toml without self-conditioning, a vocabulary of 8,192."""

    def __init__(self, vocab=8192, width=256, layers=4, heads=4, embed=64, steps=1000):
        super().__init__()
        self.width, self.steps = width, steps
        self.mapper, self.tokens = nn.Linear(SEEN, width), nn.Embedding(vocab, embed)
        self.places = nn.Parameter(torch.randn(PATCHES, width) * 0.02)
        self.input, self.output = nn.Linear(embed, width), nn.Linear(width, embed)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.positions = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.segments, self.nothing = nn.Parameter(0.02 * torch.randn(2, width)), nn.Parameter(0.02 * torch.randn(width))
        self.blocks, self.ln = nn.ModuleList(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width)
        self.register_buffer("bars", (1 - (torch.arange(steps + 1) / steps + 1e-4).sqrt()).clamp(1e-5, 1))

    def denoise(self, x, t, seen):
        half = self.width // 2
        angles = t[:, None] * 10_000 ** (-torch.arange(half) / half)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))[:, None]
        x = torch.cat([self.input(x) + self.positions + time + self.segments[0], seen + self.segments[1]], 1)
        for block in self.blocks:
            x = block(x, False)
        return self.output(self.ln(x[:, :CONTEXT]))

    def loss(self, features, ids, targets):
        batch = ids.shape[0]
        start = self.tokens(F.pad(targets, (0, 1), value=1))
        seen = self.mapper(features) + self.places
        seen = torch.where(torch.rand(batch, 1, 1) < 0.1, self.nothing, seen).repeat(2, 1, 1)
        t = torch.cat([torch.randint(1, self.steps + 1, (batch,)), torch.ones(batch, dtype=torch.long)])
        x_0, bar = start.repeat(2, 1, 1), self.bars[t][:, None, None]
        x_t = bar.sqrt() * x_0 + (1 - bar).sqrt() * torch.randn_like(x_0)
        found = self.denoise(x_t, t, seen)
        apart = (found - x_0).square()
        rounding = F.cross_entropy((found[:batch] @ self.tokens.weight.t()).flatten(0, 1), F.pad(targets, (0, 1), value=1).flatten())
        return apart[:batch].mean() + apart[batch:].mean() + 0.5 * rounding

    @torch.inference_mode()
    def write(self, features, count, passes=10):
        batch = features.shape[0]
        x, seen = torch.randn(batch, CONTEXT, self.tokens.embedding_dim), self.mapper(features) + self.places
        for number in range(passes):
            step, after = self.steps * (passes - number) // passes, self.steps * (passes - number - 1) // passes
            found = self.denoise(x, torch.full((batch,), step), seen)
            bar, left = self.bars[step], self.bars[after]
            noise = (x - bar.sqrt() * found) / (1 - bar).sqrt()
            x = left.sqrt() * found + (1 - left).sqrt() * noise
        (found @ self.tokens.weight.t()).argmax(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["prefix", "lora", "diffusion"], required=True)
    parser.add_argument("--task", choices=["step", "write"], default="step")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = {"prefix": Prefix, "lora": Lora, "diffusion": Diffusion}[args.model]()
    vocab = 49152 if args.model == "lora" else 8192
    features = torch.randn(args.batch, PATCHES, SEEN)
    ids, targets = torch.randint(2, vocab, (2, args.batch, CONTEXT - 1))
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-4)
    seconds = []
    for number in range(args.warmup + args.steps):
        begun = time.perf_counter()
        if args.task == "step":
            optimizer.zero_grad(set_to_none=True)
            model.loss(features, ids, targets).backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
        else:
            model.eval()
            model.write(features, CONTEXT - 2)
        if number >= args.warmup:
            seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds)
    print(json.dumps({
        "impl": f"PyTorch {torch.__version__}", "seconds": median, "tokens_per_s": args.batch * (CONTEXT - 2) / median,
        "parameters": sum(p.numel() for p in learned), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
