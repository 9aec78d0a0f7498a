"""service install, status and uninstall: the node started on boot."""

import argparse

from node.appliance import service
from node.appliance.unit import NAME, unit
from node.config import Home
from node.console import Console
from node.exits import DONE, NO, Unavailable, Usage
from node.keys import passphrase_of, vault_bytes
from node.membership import joined
from node.wallet.vault import needs_passphrase, open_vault


def install(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node service install`: a hardened unit that starts the node on boot, or with --print its text alone."""
    if args.print:
        made = service.described(home, args.user, closed=_is_closed(home))
        text = unit(made)
        console.say(text.rstrip("\n"))
        console.result({"unit": text, "user": made.user, "reach": made.reach.value})
        return DONE
    service.require_systemd()
    home.check()
    if joined(home) is None:
        raise Usage(f"{home.path} has joined no network: `lucid-node network join FILE` comes first")
    data = vault_bytes(home)
    phrase = passphrase_of(data, args.passphrase_file, str(home.vault))
    if phrase is not None:
        open_vault(data, phrase)  # a wrong one shall be told now and not at the next boot
    made = service.described(home, args.user, closed=phrase is not None)
    service.install(made, phrase)
    console.say(f"Wrote {service.UNIT}: the node of {made.home} runs as {made.user}, now and after each boot.")
    if phrase is not None:
        console.say(f"The vault's passphrase is in {service.SEALED}, which this machine alone can read.")
    console.say("  lucid-node service status             how the service does")
    console.say(f"  journalctl -u {NAME.removesuffix('.service')} -f            what it says")
    console.result({"unit": str(service.UNIT), "user": made.user, "reach": made.reach.value, "home": str(made.home)})
    return DONE


def _is_closed(home: Home) -> bool:
    """Whether the vault needs a passphrase; one that is not there yet, or is not ours to read, will."""
    try:
        return needs_passphrase(vault_bytes(home))
    except Unavailable:
        return True


def status(_args: argparse.Namespace, _home: Home, console: Console) -> int:
    """`lucid-node service status`: exit 1 unless it runs."""
    said = service.state()
    installed, active = said.get("LoadState") == "loaded", said.get("ActiveState") == "active"
    facts = {
        "installed": installed,
        "enabled": said.get("UnitFileState") == "enabled",
        "active": active,
        "state": f"{said.get('ActiveState', 'unknown')} ({said.get('SubState', 'unknown')})",
        "restarts": int(said.get("NRestarts") or 0),
        "result": said.get("Result", ""),
    }
    if not installed:
        console.say("There is no service of lucid-node: `lucid-node service install` makes one.")
    else:
        console.say(f"service    {facts['state']}, {'starts' if facts['enabled'] else 'does not start'} on boot")
        console.say(f"restarts   {facts['restarts']}, the last end was: {facts['result'] or 'none'}")
        if not active:
            console.say(f"`journalctl -u {NAME.removesuffix('.service')} -e` shows what it said.")
    console.result(facts)
    return DONE if active else NO


def uninstall(_args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node service uninstall`: stopped and gone; the home stays."""
    service.require_systemd()
    there = service.uninstall()
    console.say(f"The service is gone; {home.path} was not touched." if there else "There was no service.")
    console.result({"removed": there})
    return DONE
