"""How fast `verify` is on a warm cache, and how soon it starts."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench import seal
from tests.bench.measure import run, spread


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    whole = seal.make_input(folder)
    home = folder / "verify-home"
    lucid = [sys.executable, "-m", "node", "--home", str(home), "--json"]
    if not home.exists():
        subprocess.run([*lucid, "init", "--insecure-plaintext-keys"], check=True, capture_output=True)
        subprocess.run([*lucid, "record", "--input", str(whole)], check=True, capture_output=True)
        small = folder / "small.bin"
        small.write_bytes(os.urandom(100_000))
        subprocess.run([*lucid, "record", "--input", str(small)], check=True, capture_output=True)
    listed = subprocess.run([*lucid, "sessions"], check=True, capture_output=True, text=True)
    large, small_one = (row for row in json.loads(listed.stdout.splitlines()[-1])["sessions"][:2])
    speeds, cpus, starts = [], [], []
    for number in range(rounds + 1):
        cost = run([*lucid, "verify", large["session"]], cwd=folder, environment=dict(os.environ))
        start = run([*lucid, "verify", small_one["session"]], cwd=folder, environment=dict(os.environ))
        if number:
            speeds.append(large["bytes_out"] / cost.wall / 1e9)
            cpus.append(cost.cpu / (large["bytes_out"] / 1e9))
            starts.append(start.wall)
    print(f"  verify, {large['bytes_out'] / 1e9:.2f} GB sealed, warm: {spread(speeds)} GB/s, {spread(cpus)} CPU-s/GB")
    print(f"  verify of a 0.1 MB session from start to end: {spread(starts)} s")
    return {"gb_per_s": statistics.median(speeds), "start_s": statistics.median(starts)}
