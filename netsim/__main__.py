"""lucid-netsim: what its commands do (netsim.arguments has their words).

Exit codes: 0 every invariant held, 1 one broke, 2 usage or a contradictory plan, 3 could not be done now (interrupted, no
place to write).
"""

import argparse
import json
import os
import resource
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from consensus.placement import Registrant
from netsim import (
    batch,
    comparison,
    durability,
    durability_report,
    economy_report,
    explaining,
    hunting,
    page,
    parliament,
    parliament_report,
    poot,
    rehearsal,
    report,
    siege,
    siege_report,
    tape,
    telling,
    versus,
    whatif,
    whatif_report,
)
from netsim.arguments import parser
from netsim.checks import Broken, Check, judge
from netsim.durability import DurabilityStage, Senseless
from netsim.faults import Contradiction, Plan, described
from netsim.keeper import Arrive, Enter, Strike
from netsim.live import AnyStage, Live
from netsim.overlay import build, stage
from netsim.parliament import AgreementStage
from netsim.scenarios import SCENARIOS, Scenario, Unknown, from_file, keys_of, named, recipe
from netsim.tape import Recipe
from netsim.world import World
from node.overlay.calls import FindNode, FindProviders, Provide
from node.overlay.custody import Place
from node.overlay.entries import LogName
from node.overlay.pen import Append

HELD, BROKE, USAGE, UNAVAILABLE = 0, 1, 2, 3
ORDERS: Final = (Append, FindNode, FindProviders, Provide, LogName, Place, Enter, Registrant, Strike, Arrive)
"""Commands that the scenarios give, and so may stand on a tape."""


def perform(made: AnyStage, what: Recipe) -> tuple[float, float, bool]:
    """Run a stage to its end or to Ctrl-C: seconds of real time and of the processor, and whether it was interrupted."""
    until = made.world.now + what.duration_ms
    progress, began, spent, interrupted = Live(made, until), time.monotonic(), time.process_time(), False
    try:
        made.broken = judge(made.world, until, made.checks)
    except KeyboardInterrupt:
        interrupted = True
    progress.end()
    return time.monotonic() - began, time.process_time() - spent, interrupted


def run(args: argparse.Namespace) -> int:
    """`lucid-netsim run`."""
    if args.example:
        print(explaining.example(named(args.scenario)), end="")
        return HELD
    base, table, more = _chosen(args.scenario)
    settings = {str(key): str(value) for key, value in table.get("options", {}).items()} | dict(args.option)
    nodes, seed = (
        args.nodes or int(table.get("nodes", 100)),
        args.seed if args.seed is not None else int(table.get("seed", 1)),
    )
    minutes = args.minutes or table.get("minutes")
    what = recipe(base, nodes, seed, minutes, settings, more)
    out = Path(args.out) if args.out else None
    command = _command(args.scenario, what, settings)
    if out is not None:
        _ours(out, None if args.seeds else command)
        _writable(out)
    if args.seeds:
        return _run_seeds(args, out)
    if base.kind == "economy":
        return _run_economy(what, command, out, as_json=args.json)
    made = _stage(what, real_signatures=args.real_signatures, counts_cpu=out is not None)
    wall, cpu, interrupted = perform(made, what)
    numbers = _numbers(out, made, report.Run(what, wall, cpu, _peak_mb(), interrupted, command))
    _say(numbers, out, as_json=args.json)
    if interrupted:
        return UNAVAILABLE
    if made.broken is not None:
        _keep_tape(what, made.broken, made.world.digest(), out or Path(), shrink=args.shrink)
        return BROKE
    return HELD


def _run_seeds(args: argparse.Namespace, out: Path | None) -> int:
    """`lucid-netsim run --seeds`: the same from several seeds, on all cores."""
    words = [args.scenario, *(["--nodes", str(args.nodes)] if args.nodes else [])]
    words += ["--minutes", str(args.minutes)] if args.minutes else []
    words += [word for key, value in args.option for word in ("--option", f"{key}={value}")]
    words += ["--real-signatures"] if args.real_signatures else []
    first = 1 if args.seed is None else args.seed
    played = batch.play(words, range(first, first + args.seeds), args.jobs or batch.cores(), out, _tell_runs)
    if not played.results:
        raise KeyboardInterrupt
    numbers = batch.merged(played)
    lines = batch.say(numbers)
    if out is not None:
        (out / batch.FILE).write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
        lines = [*lines, f"  report: {page.write(out, numbers, lines)}"]
    print(json.dumps(numbers, ensure_ascii=False) if args.json else "\n".join(lines))
    for one in played.results:
        if (broken := one.get("broken")) is not None:
            folder = Path() if out is None else batch.folder(out, one["seed"])
            path = _tape_in(folder, one["scenario"], one["seed"])
            kept = f" Kept: lucid-netsim replay {path}" if path.exists() else ""
            print(f"seed {one['seed']}: {broken['check']}: {broken['sentence']}.{kept}", file=sys.stderr)
    return UNAVAILABLE if played.partial else HELD if played.ok else BROKE


def _tell_runs(done: int, of: int) -> None:
    """Overwrite a line on a terminal, and wipe it at the end."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{f'{done} of {of} seeds' if done < of else ''}", end="", file=sys.stderr, flush=True)


def _run_economy(what: Recipe, command: str, out: Path | None, *, as_json: bool) -> int:
    """Play the worlds of a table; nothing but the recipe is needed to see them again, so there is no tape."""
    made, interrupted = poot.stage(what), False
    began, spent = time.monotonic(), time.process_time()
    try:
        made.play(_tell_slots)
    except KeyboardInterrupt:
        interrupted = True
    wall, cpu = time.monotonic() - began, time.process_time() - spent
    said = report.Run(what, wall, cpu, _peak_mb(), interrupted, command)
    numbers = economy_report.result(made, said) if out is None else economy_report.write(out, made, said)
    _say(numbers, out, as_json=as_json)
    if interrupted:
        return UNAVAILABLE
    return BROKE if made.complaints() else HELD


def _tell_slots(played: int, of: int) -> None:
    """Overwrite a line on a terminal, and wipe it at the end."""
    if sys.stderr.isatty():
        line = f"{played / of:6.1%}  {played:,} of {of:,} slots" if played < of else ""
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _command(scenario: str, what: Recipe, settings: Mapping[str, str]) -> str:
    """The words that run the same again."""
    words = ["lucid-netsim", "run", scenario, "--nodes", str(what.nodes), "--seed", str(what.seed)]
    words += ["--minutes", str(what.duration_ms // 60_000)]
    for key, value in settings.items():
        words += ["--option", f"{key}={value}"]
    return shlex.join(words)


def _chosen(name: str) -> tuple[Scenario, dict[str, Any], Plan]:
    if name.endswith(".toml"):
        return from_file(Path(name))
    return named(name), {}, Plan()


def _stage(what: Recipe, *, real_signatures: bool, counts_cpu: bool) -> AnyStage:
    kind = named(what.scenario).kind
    if kind == "agreement":
        return parliament.stage(what)
    if kind == "siege":
        return siege.stage(what)
    if kind == "durability":
        return durability.stage(what, keys=keys_of if real_signatures else None)
    return stage(what, real_signatures=real_signatures, cpu_ns=time.thread_time_ns if counts_cpu else None)


def _build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    kind = named(recipe.scenario).kind
    if kind == "agreement":
        return parliament.build(recipe, recorded)
    if kind == "siege":
        return siege.build(recipe, recorded)
    if kind == "durability":
        return durability.build(recipe, recorded)
    return build(recipe, recorded)


def _numbers(out: Path | None, made: AnyStage, said: report.Run) -> dict[str, Any]:
    """The numbers of a run; with a folder its whole report is there."""
    if isinstance(made, DurabilityStage):
        return durability_report.result(made, said) if out is None else durability_report.write(out, made, said)
    if isinstance(made, siege.SiegeStage):
        return siege_report.result(made, said) if out is None else siege_report.write(out, made, said)
    if isinstance(made, AgreementStage):
        return parliament_report.result(made, said) if out is None else parliament_report.write(out, made, said)
    return report.result(made, said) if out is None else report.write(out, made, said)


def _ours(folder: Path, command: str | None) -> None:
    """See that a folder has no report of another run, of which some would stay and be taken for this one's; of seeds: none."""
    kept = folder / "result.json"
    if command is None:
        taken = kept.exists()
    else:
        taken = (folder / batch.FILE).exists() or (kept.exists() and comparison.read(kept).get("command") != command)
    if taken:
        raise Unknown(f"{folder} has the report of another run: name another folder, or remove it first")


def _writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".probe"
    probe.touch()
    probe.unlink()


def _tape_in(folder: Path, scenario: str, seed: int) -> Path:
    return folder / f"{scenario}-{seed}.tape"


def _keep_tape(what: Recipe, broken: Broken, digest: str, folder: Path, *, shrink: int) -> None:
    """Leave what broke on a tape, its fault plan shrunk within a budget of runs."""
    kept = tape.capture(what, _build, broken, digest)
    if shrink and what.plan.faults:

        def fails(plan: Plan) -> bool:
            smaller = Recipe(what.scenario, what.seed, what.nodes, what.duration_ms, what.options, plan)
            return tape.perform(smaller, _build)[1] is not None

        plan, runs = tape.shrink(what.plan, what.nodes, fails, shrink)
        smaller = Recipe(what.scenario, what.seed, what.nodes, what.duration_ms, what.options, plan)
        world, again = tape.perform(smaller, _build)
        if again is not None:
            kept = tape.capture(smaller, _build, again, world.digest())
            print(f"{len(plan.faults)} of {len(what.plan.faults)} faults suffice ({runs} runs):", file=sys.stderr)
            for fault in plan.faults:
                print(f"  {described(fault)}", file=sys.stderr)
    path = _tape_in(folder, what.scenario, what.seed)
    tape.write(path, kept)
    print(f"{broken.check}: {broken.sentence}. Kept: lucid-netsim replay {path}", file=sys.stderr)


def _say(numbers: dict[str, Any], out: Path | None, *, as_json: bool) -> None:
    lines = telling.lines_of(numbers)
    if out is not None:
        written = page.write(out, numbers, lines)
        lines = [*lines, f"  report: {written}"]
    print(json.dumps(numbers, ensure_ascii=False) if as_json else "\n".join(lines))


def replay(args: argparse.Namespace) -> int:
    """`lucid-netsim replay`: 1 when what broke breaks again, exactly."""
    kept = tape.read(Path(args.tape), ORDERS)
    world = tape.replay(kept, _build)
    broken = kept.broken
    facts = {"scenario": kept.recipe.scenario, "seed": kept.recipe.seed, "digest": world.digest(), **broken._asdict()}
    if args.json:
        print(json.dumps(facts))
    else:
        print(f"{kept.recipe.scenario}, seed {kept.recipe.seed}: the same run again, to the same end at {broken.now}:")
        print(f"  {broken.check}: {broken.sentence}")
    return BROKE


def compare(args: argparse.Namespace) -> int:
    """`lucid-netsim compare`: 0 whatever it shows, if the two can be compared."""
    a, b = comparison.read(Path(args.a)), comparison.read(Path(args.b))
    comparison.one_kind(a, b)
    if "runs" in a or "runs" in b:
        laid = versus.versus(a, b)
        rows = {
            one.name: {
                "a": one.a._asdict(),
                "b": one.b._asdict(),
                "ratio": one.ratio,
                "chance": one.chance,
                "differs": one.differs,
            }
            for one in laid.rows
        }
        print(json.dumps({**laid._asdict(), "rows": rows}) if args.json else "\n".join(versus.say(laid)))
        return HELD
    compared = comparison.compare(a, b)
    if args.json:
        figures = {one.name: {"a": one.a, "b": one.b, "ratio": one.ratio} for one in compared.figures}
        print(json.dumps({**compared._asdict(), "figures": figures}))
    else:
        print("\n".join(comparison.say(compared)))
    return HELD


def listing(args: argparse.Namespace) -> int:
    """`lucid-netsim list`."""
    if args.json:
        rows = [
            {"name": one.name, "kind": one.kind, "shows": one.shows, "minutes": one.minutes, "options": one.options}
            for one in SCENARIOS.values()
        ]
        print(json.dumps({"scenarios": rows}))
        return HELD
    wide = max(map(len, SCENARIOS)) + 2
    for one in SCENARIOS.values():
        print(f"{one.name:<{wide}}{one.shows}")
        print(f"{'':<{wide}}{one.minutes} min; " + ", ".join(f"{key}={value}" for key, value in one.options.items()))
    return HELD


def hunt(args: argparse.Namespace) -> int:
    """`lucid-netsim hunt`: 1 when something broke."""
    out, counts, spent = Path(args.out), Counter[str](), time.monotonic()
    _writable(out)

    def tell(prey: hunting.Prey) -> None:
        counts[prey.recipe.scenario] += 1
        if sys.stderr.isatty():
            print(
                f"\r\x1b[K{sum(counts.values())} worlds, {time.monotonic() - spent:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
        if prey.is_found and prey.broken is not None:
            print(
                f"world {prey.world}, {prey.recipe.scenario}: {prey.broken.check}: {prey.broken.sentence}",
                file=sys.stderr,
            )

    worlds = None if args.world is None else [args.world]
    found = hunting.hunt(args.seed, worlds, args.minutes, _build, tell)
    tapes = []
    for prey in found:
        path, left, of = hunting.kept(prey, _build, out)
        tapes.append(
            {
                "world": prey.world,
                "scenario": prey.recipe.scenario,
                "check": prey.broken.check if prey.broken else "",
                "tape": str(path),
                "faults": left,
                "of": of,
            }
        )
        print(f"{left} of {of} faults suffice. Kept: lucid-netsim replay {path}", file=sys.stderr)
    told = {
        "seed": args.seed,
        "worlds": sum(counts.values()),
        "scenarios": dict(sorted(counts.items())),
        "broken": tapes,
    }
    if args.json:
        print(json.dumps(told))
    else:
        print(f"{told['worlds']} worlds of seed {args.seed} in {time.monotonic() - spent:.0f} s: {len(found)} broke")
    return BROKE if found else HELD


def rehearse(args: argparse.Namespace) -> int:
    """`lucid-netsim rehearse`: 1 when an invariant broke."""
    broke, told = False, []
    for seed in range(args.seed, args.seed + args.seeds):
        found = rehearsal.rehearse(seed, args.nodes, args.minutes)
        broke |= bool(found.complaints)
        told.append({"seed": seed, **found._asdict()})
        if not args.json:
            print("\n".join(rehearsal.say(seed, args.nodes, found)))
    if args.json:
        print(json.dumps({"nodes": args.nodes, "rehearsals": told, "ok": not broke}))
    return BROKE if broke else HELD


def explain(args: argparse.Namespace) -> int:
    """`lucid-netsim explain`."""
    told = explaining.explained(named(args.scenario))
    print(json.dumps(told, ensure_ascii=False) if args.json else "\n".join(explaining.say(told)))
    return HELD


def what_if(args: argparse.Namespace) -> int:
    """`lucid-netsim what-if`: 1 when an invariant broke in one of its runs."""
    if args.example:
        print(whatif.example(), end="")
        return HELD
    if args.file is None:
        raise Unknown("what-if needs a FILE; --example prints one to begin with")
    network, out = whatif.read(Path(args.file)), Path(args.out) if args.out else None
    if out is not None:
        _writable(out)
    played = whatif.parts(network, whole=args.whole)
    runs: dict[str, Sequence[Mapping[str, Any]]] = {}
    for number, part in enumerate(played, 1):
        tell = partial(_tell_part, f"{number} of {len(played)} parts, {part.name}: ")
        folder = None if out is None else out / part.name
        batched = batch.play(part.words, range(1, args.seeds + 1), args.jobs or batch.cores(), folder, tell)
        if batched.partial:
            raise KeyboardInterrupt
        runs[part.name] = batched.results
    told = whatif_report.numbers(network, played, runs, whatif.answers(network, runs))
    lines = [*whatif_report.say(told)]
    if out is not None:
        lines.append(f"  report: {whatif_report.write(out, told)}")
    print(json.dumps(told, ensure_ascii=False) if args.json else "\n".join(lines))
    return HELD if told["ok"] else BROKE


def _tell_part(name: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{f'{name}{done} of {of} seeds' if done < of else ''}", end="", file=sys.stderr, flush=True)


DOES: Final = {
    "list": listing,
    "run": run,
    "explain": explain,
    "what-if": what_if,
    "hunt": hunt,
    "rehearse": rehearse,
    "replay": replay,
    "compare": compare,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what ends it early is one sentence on stderr."""
    args = parser(DOES).parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    try:
        code: int = args.does(args)
        sys.stdout.flush()
    except (Unknown, Contradiction, Senseless) as error:
        print(f"lucid-netsim: {error}", file=sys.stderr)
        return USAGE
    except (tape.Refused, tape.Diverged, comparison.NoResult, batch.SeedFailed) as error:
        print(f"lucid-netsim: {error}", file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        print("lucid-netsim: interrupted before there was a result; nothing more was written", file=sys.stderr)
        return UNAVAILABLE
    except BrokenPipeError:  # who read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNAVAILABLE
    except OSError as error:
        print(f"lucid-netsim: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return UNAVAILABLE
    return code


if __name__ == "__main__":
    sys.exit(main())
