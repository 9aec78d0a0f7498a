"""What a person does on a desktop, without what they write: the audit stream, JSON lines.

The rule: it tells that somebody worked, where and when, never what they typed. Keys are known by class only (a
character, an editing key, ...), and they are *counted* per class over windows of 500 ms, aligned to the wall clock and
not to the first key: single keystroke times let text be guessed from typing rhythm, and an order of keys would tell
words apart. What remains visible is how much was typed in which half second, so the length of a password is; its
letters are not. Key codes and key symbols are forgotten inside one function, before anything is kept.

Every line is an object with sorted keys, no spaces, UTF-8: `t` Unix ms (of a window: its start) and `k`, one of
- `key`: `w` the window in ms, `n` {class: presses}, `m` {class: of these, with Control, Alt or Super held};
- `button`: `w`, `n` {button: presses} (4 to 7 are wheel steps);
- `focus`: `class`, `pid` and, if wanted, `title` of the window that became active; null when there is none;
- `clipboard`: `selection`, and `class` and `pid` of its new owner, whose content is never asked for;
- `gap`: `source` that cannot be heard and the `reason`; `dropped`: `n` events beyond what a window keeps;
- `start`, `end`: written by the session; `end` also here when the X server goes away.
Windows of native Wayland clients are not seen.
"""

import contextlib
import json
import select
import socket
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import trio
from Xlib import X, Xatom, error
from Xlib.display import Display
from Xlib.ext import record
from Xlib.protocol import rq

from consensus.ids import Millis
from pipeline.desktop import NoDisplay
from pipeline.stream import Fragment, Piece

WINDOW_MS: Final = 500
LINES_MAX: Final = 1_000
TEXT_MAX: Final = 256
"""Characters kept of a title or a window class; both are what a program says of itself."""

_SELECTIONS: Final = ("CLIPBOARD", "PRIMARY")
_HELD: Final = X.ControlMask | X.Mod1Mask | X.Mod4Mask
_OWNER_CHANGED: Final = 7
"""XFixes: owner set, its window destroyed, its client closed (three bits)."""


def line(kind: str, t: Millis, **fields: object) -> bytes:
    """One canonical audit line with its newline."""
    whole = {**fields, "t": t, "k": kind}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def key_class(keysym: int) -> str:
    """What sort of key an X key symbol is: char, edit, nav, enter, mod, fn or other.

    Source: X11/keysymdef.h; dead keys and the keypad's digits and signs are characters.
    """
    if keysym in {0xFF0D, 0xFF8D}:
        return "enter"
    if keysym in {0xFF08, 0xFF09, 0xFF63, 0xFF89, 0xFF9E, 0xFF9F, 0xFFFF}:
        return "edit"
    if 0xFF50 <= keysym <= 0xFF58 or 0xFF95 <= keysym <= 0xFF9D:
        return "nav"
    if 0xFFE1 <= keysym <= 0xFFEE or 0xFE01 <= keysym <= 0xFE13 or keysym in {0xFF14, 0xFF7E, 0xFF7F}:
        return "mod"
    if 0xFFBE <= keysym <= 0xFFE0:
        return "fn"
    keypad = keysym == 0xFF80 or 0xFFAA <= keysym <= 0xFFBD
    if 0x20 <= keysym < 0xFE00 or 0xFE50 <= keysym <= 0xFE93 or keypad or 0x01000100 <= keysym <= 0x0110FFFF:
        return "char"
    return "other"


class Log:
    """Collects what the watching threads see until the next window is over; bounded, and safe for several threads."""

    def __init__(self, now: Callable[[], Millis], window_ms: int) -> None:
        self._now = now
        self._window = window_ms
        self._lock = threading.Lock()
        self._counts: dict[tuple[int, str], tuple[Counter[str], Counter[str]]] = {}
        self._lines: list[tuple[int, bytes]] = []
        self._dropped = 0

    def count(self, kind: str, what: str, *, held: bool = False) -> None:
        """One more press of this class of key, or of this button."""
        with self._lock:
            t = self._now()
            slot = (t - t % self._window, kind)
            if slot not in self._counts and len(self._counts) >= LINES_MAX:
                self._dropped += 1
                return
            presses, with_modifier = self._counts.setdefault(slot, (Counter(), Counter()))
            presses[what] += 1
            if held:
                with_modifier[what] += 1

    def tell(self, kind: str, **fields: object) -> None:
        """One line of its own, at its own time."""
        with self._lock:
            if len(self._lines) >= LINES_MAX:
                self._dropped += 1
                return
            t = self._now()
            self._lines.append((t, line(kind, t, **fields)))

    def take(self, *, everything: bool = False) -> Fragment | None:
        """The lines of all windows that are over, in the order of their time; with `everything` also of the present one."""
        with self._lock:
            now = self._now()
            over = sorted(slot for slot in self._counts if everything or slot[0] + self._window <= now)
            for slot in over:
                presses, with_modifier = self._counts.pop(slot)
                t, kind = slot
                fields: dict[str, object] = {"w": self._window, "n": presses}
                if kind == "key":
                    fields["m"] = with_modifier
                self._lines.append((t, line(kind, Millis(t), **fields)))
            if self._dropped:
                self._lines.append((now, line("dropped", now, n=self._dropped)))
            lines, self._lines, self._dropped = sorted(self._lines), [], 0
        if not lines:
            return None
        return Fragment(b"".join(text for _, text in lines), Millis(lines[0][0]), now)


async def audit(
    send: "trio.MemorySendChannel[Piece]",
    *,
    display: str,
    now: Callable[[], Millis],
    stop: trio.Event,
    titles: bool = True,
    window_ms: int = WINDOW_MS,
    task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Watches a display until `stop` or until its X server goes away, and sends what happened after every window.

    Started when it can hear everything it ever will. A server without RECORD gives a `gap` line for keys and buttons; a
    lost one a last `end` line. `now` is also called from threads. Raises NoDisplay when there is no display to begin with.
    """
    log = Log(now, window_ms)
    control, keys, view = await trio.to_thread.run_sync(
        lambda: [_open(display) for _ in range(3)], abandon_on_cancel=True
    )
    limiter, heard, over = trio.CapacityLimiter(2), [trio.Event(), trio.Event()], trio.Event()
    lost: list[str] = []
    token = trio.lowlevel.current_trio_token()

    async def watch(watching: Callable[[Callable[[], None]], None], ready: trio.Event) -> None:
        reason = await trio.to_thread.run_sync(
            _until_lost, lambda: watching(lambda: token.run_sync_soon(ready.set)), limiter=limiter
        )
        ready.set()
        if reason is not None:
            lost.append(reason)
            over.set()

    try:
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(watch, lambda ready: _watch_keys(control, keys, log, ready), heard[0])
                nursery.start_soon(watch, lambda ready: _watch_windows(view, log, ready, titles=titles), heard[1])
                nursery.start_soon(_either, stop, over)
                for event in heard:
                    await event.wait()
                task_status.started()
                while not over.is_set():
                    with trio.move_on_after((window_ms - now() % window_ms) / 1000):
                        await over.wait()
                    if (fragment := log.take(everything=over.is_set())) is not None:
                        await send.send(fragment)
            finally:
                nursery.cancel_scope.cancel()
                for connection in (control, keys, view):
                    _cut(connection)
    finally:
        for connection in (control, keys, view):
            with contextlib.suppress(error.ConnectionClosedError, OSError):
                connection.close()
    if lost and not stop.is_set():
        log.tell("end", reason=f"the X server of {display} has gone: {lost[0]}")
    if (fragment := log.take(everything=True)) is not None:
        await send.send(fragment)


def screen_size(display: str) -> tuple[int, int]:
    """Width and height in pixels of the display's screen; blocking. Raises NoDisplay."""
    connection = _open(display)
    screen = connection.screen()
    size = int(screen.width_in_pixels), int(screen.height_in_pixels)
    connection.close()
    return size


async def _either(stop: trio.Event, over: trio.Event) -> None:
    await stop.wait()
    over.set()


def _open(display: str) -> Any:
    # A bare ":0" lets python-xlib fall back to TCP when there is no socket of that name; we never go there.
    local = f"unix/{display}" if display.startswith(":") else display
    try:
        connection = Display(local)
    except (error.DisplayError, error.ConnectionClosedError, error.XauthError, OSError) as problem:
        _close_leftovers(problem)
        raise NoDisplay(
            f"the display {display} cannot be opened ({problem}): is its X server up, and are its keys in XAUTHORITY?"
        ) from problem
    # Errors of requests without a reply concern windows that have just closed; the default handler prints them.
    connection.set_error_handler(lambda *_: None)
    return connection


def _close_leftovers(problem: BaseException | None) -> None:
    """Closes the sockets of a refused connection, which python-xlib leaves open within reach of its own frames alone."""
    while problem is not None:
        for frame, _ in traceback.walk_tb(problem.__traceback__):
            for left in (*frame.f_locals.values(), *getattr(frame.f_locals.get("self"), "__dict__", {}).values()):
                if isinstance(left, socket.socket):
                    left.close()
        problem = problem.__context__


def _cut(connection: Any) -> None:
    """Ends a connection under a thread that is blocked on it, even when the server no longer answers."""
    with contextlib.suppress(OSError):
        connection.display.socket.shutdown(socket.SHUT_RDWR)


def _until_lost(watching: Callable[[], None]) -> str | None:
    """Watches, and says why the connection ended; None when the watching ended by itself."""
    try:
        watching()
    except (error.ConnectionClosedError, OSError) as problem:
        return str(problem)
    return None


def _watch_keys(control: Any, keys: Any, log: Log, ready: Callable[[], None]) -> None:
    """Counts keys by class and buttons until the connection is cut: RECORD sees them whatever client they go to."""
    if not control.has_extension("RECORD"):
        log.tell("gap", source="keys", reason="the X server has no RECORD extension: keys and buttons are not recorded")
        return
    classes = {code: key_class(control.keycode_to_keysym(code, 0)) for code in range(8, 256)}
    nothing = (0, 0)
    wanted = {
        "core_requests": nothing,
        "core_replies": nothing,
        "ext_requests": (0, 0, 0, 0),
        "ext_replies": (0, 0, 0, 0),
        "delivered_events": nothing,
        "device_events": (X.KeyPress, X.ButtonPress),
        "errors": nothing,
        "client_started": False,
        "client_died": False,
    }
    context = control.record_create_context(0, [record.AllClients], [wanted])
    control.sync()  # the server must know the context before the other connection enables it
    event_field = rq.EventField(None)

    def heard(reply: Any) -> None:
        if reply.category == record.StartOfData:
            ready()
        if reply.category != record.FromServer or reply.client_swapped:
            return
        data = reply.data
        while data:
            event, data = event_field.parse_binary_value(data, keys.display, None, None)
            if event.type == X.KeyPress:
                log.count("key", classes.get(event.detail, "other"), held=bool(event.state & _HELD))
            elif event.type == X.ButtonPress:
                log.count("button", str(event.detail))

    keys.record_enable_context(context, heard)


def _watch_windows(view: Any, log: Log, ready: Callable[[], None], *, titles: bool) -> None:
    """Tells which window is active and who owns the clipboard, at the start and at every change."""
    root, active = view.screen().root, view.intern_atom("_NET_ACTIVE_WINDOW")
    root.change_attributes(event_mask=X.PropertyChangeMask)
    selections = {view.intern_atom(name): name for name in _SELECTIONS}
    clipboard = view.has_extension("XFIXES")
    if clipboard:
        view.xfixes_query_version()
        for atom in selections:
            view.xfixes_select_selection_input(root, atom, _OWNER_CHANGED)
    else:
        log.tell(
            "gap", source="clipboard", reason="the X server has no XFIXES extension: clipboard owners are not recorded"
        )
    shown = 0

    def look() -> None:
        nonlocal shown
        window = _number(root, active) or 0
        if window != shown:
            shown = window
            title = {"title": _title(view, window)} if titles else {}
            log.tell("focus", **_owner(view, window), **title)

    look()
    view.sync()
    ready()
    while True:
        # select, because next_event holds a lock of python-xlib that the cut of the connection would wait for.
        while not view.pending_events():
            select.select([view.fileno()], [], [])
        event = view.next_event()
        if event.type == X.PropertyNotify and event.atom == active:
            look()
        elif clipboard and event.type == view.extension_event.SetSelectionOwnerNotify[0]:
            owner = getattr(event.owner, "id", event.owner)
            log.tell("clipboard", selection=selections.get(event.selection, "other"), **_owner(view, owner))


def _owner(view: Any, window: int) -> dict[str, object]:
    """Class and process of a window, null where it does not say or has closed meanwhile."""
    name: str | None = None
    with contextlib.suppress(error.XError):
        pair = view.create_resource_object("window", window).get_wm_class() if window else None
        name = pair[1][:TEXT_MAX] if pair else None
    pid = _number(view.create_resource_object("window", window), view.intern_atom("_NET_WM_PID")) if window else None
    return {"class": name, "pid": pid}


def _title(view: Any, window: int) -> str | None:
    if not window:
        return None
    for atom, coding in ((view.intern_atom("_NET_WM_NAME"), "utf-8"), (Xatom.WM_NAME, "latin-1")):
        with contextlib.suppress(error.XError):
            found = view.create_resource_object("window", window).get_full_property(atom, X.AnyPropertyType)
            if found is not None and found.value:
                text = found.value if isinstance(found.value, bytes) else str(found.value).encode()
                return str(text.decode(coding, "replace"))[:TEXT_MAX]
    return None


def _number(window: Any, atom: int) -> int | None:
    """The first number of a window's property."""
    with contextlib.suppress(error.XError):
        found = window.get_full_property(atom, X.AnyPropertyType)
        if found is not None and len(found.value) and not isinstance(found.value, bytes | str):
            return int(found.value[0])
    return None
