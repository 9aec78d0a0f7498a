"""Sealing 2 GB beside `zstd -3 | age`, restic, borg and cp: interleaved rounds, medians and ratios with their spread."""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from pipeline.audit import line
from tests.bench.measure import Cost, run, spread, table

SHARES = {"H.264": 1_400_000_000, "audit log": 100_000_000, "incompressible": 520_000_000}
PEERS = ("zstd", "age", "age-keygen", "restic", "borg")
PACKAGES = "zstd age restic borgbackup"


def make_input(folder: Path) -> Path:
    """The input, made once: H.264 by libx264 of a moving noisy picture, audit lines in our own format, random bytes."""
    whole = folder / "input.bin"
    if whole.exists() and whole.stat().st_size >= sum(SHARES.values()):
        return whole
    print("making the input (about a minute) …", flush=True)
    draw = random.Random(7)
    partial = folder / "input.partial"
    # fmt: off
    encoder = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30", "-vf", "noise=alls=30:allf=t",
               "-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-pix_fmt", "yuv420p", "-t", "200",
               "-f", "mp4", "-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-"]
    # fmt: on
    with open(partial, "wb") as out:
        with subprocess.Popen(encoder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as video:
            assert video.stdout is not None
            while out.tell() < SHARES["H.264"] and (data := video.stdout.read(1 << 20)):
                out.write(data)
            video.kill()
        if out.tell() < SHARES["H.264"]:
            raise RuntimeError("FFmpeg gave less video than the input needs")
        end, at = out.tell() + SHARES["audit log"], 1_790_000_000_000
        while out.tell() < end:
            out.write(b"".join(_event(draw, at := at + draw.randrange(500, 4000)) for _ in range(1000)))
        for _ in range(SHARES["incompressible"] // 10_000_000):
            out.write(draw.randbytes(10_000_000))
    os.rename(partial, whole)
    return whole


def _event(draw: random.Random, at: int) -> bytes:
    from consensus.ids import Millis

    match draw.randrange(4):
        case 0 | 1:
            return line("key", Millis(at), w=500, n={"char": draw.randrange(12), "nav": draw.randrange(3)}, m={})
        case 2:
            return line(
                "focus",
                Millis(at),
                **{"class": draw.choice(["XTerm", "Firefox", "Code"]), "pid": draw.randrange(300, 32000)},
            )
        case _:
            return line("clipboard", Millis(at), selection="CLIPBOARD", pid=draw.randrange(300, 32000))


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    if missing := [name for name in PEERS if shutil.which(name) is None]:
        raise SystemExit(f"{', '.join(missing)} not installed: apt-get install {PACKAGES}")
    whole = make_input(folder)
    size = whole.stat().st_size
    key = folder / "age.key"
    if not key.exists():
        subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    recipient = key.read_text().partition("public key: ")[2].split()[0]
    out = folder / "out"
    environment = dict(os.environ, RESTIC_PASSWORD="x", BORG_PASSPHRASE="x", RESTIC_CACHE_DIR=str(out / "cache"))
    environment |= {"BORG_BASE_DIR": str(out / "base"), "LUCID_HOME": str(out / "home")}
    lucid = f"{sys.executable} -m node"
    cases = {
        "lucid": (f"{lucid} init --insecure-plaintext-keys", f"exec {lucid} record --input {whole}"),
        "zstd -3 | age": ("", f"zstd -q -3 -c {whole} | age -r {recipient} -o {out}/a && sync {out}/a"),
        "restic": (f"restic init -q -r {out}/r", f"exec restic -q -r {out}/r backup {whole}"),
        "borg zstd,3": (f"borg init -e repokey-blake2 {out}/b", f"exec borg create -C zstd,3 {out}/b::x {whole}"),
        "cp + sync": ("", f"cp {whole} {out}/c && sync {out}/c"),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, (before, command) in cases.items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            if before:
                run(before, cwd=folder, environment=environment)
            cost = run(command, cwd=folder, environment=environment)
            if number:  # the first round warms up
                costs[name].append(cost)
                print(f"    round {number}  {name:<14} {cost.wall:6.2f} s  {cost.cpu:6.2f} CPU-s", flush=True)
    shutil.rmtree(out, ignore_errors=True)
    return _report(costs, size)


def _report(costs: dict[str, list[Cost]], size: int) -> dict[str, object]:
    print(
        f"  {size / 1e9:.2f} GB: {', '.join(f'{share / 1e9:.2f} GB {name}' for name, share in SHARES.items())}; key vault open"
    )
    rows = [("", "MB/s", "CPU-s/GB", "peak MB", "CPU against lucid", "throughput of lucid against it")]
    ours = costs["lucid"]
    for name, runs in costs.items():
        more = [theirs.cpu / mine.cpu for mine, theirs in zip(ours, runs, strict=True)]
        faster = [theirs.wall / mine.wall for mine, theirs in zip(ours, runs, strict=True)]
        rows.append(
            (
                name,
                spread([size / cost.wall / 1e6 for cost in runs], "{:.0f}"),
                spread([cost.cpu / (size / 1e9) for cost in runs]),
                f"{max(cost.rss_mb for cost in runs):.0f}",
                spread(more),
                spread(faster),
            )
        )
    table(rows)
    figures = {
        name: {
            "mb_per_s": statistics.median(size / cost.wall / 1e6 for cost in runs),
            "cpu_s_per_gb": statistics.median(cost.cpu / (size / 1e9) for cost in runs),
            "peak_mb": max(cost.rss_mb for cost in runs),
        }
        for name, runs in costs.items()
    }
    print(json.dumps(figures))
    return dict(figures)
