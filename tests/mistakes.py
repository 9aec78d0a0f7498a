"""Small mistakes in a module: `mutants_of` finds what could be wrong with its text, `with_mistake` makes it wrong.

`tests.mutants` asks whether the tests notice.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

COMPARED: Final[Mapping[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    # The other side of the border, and the contrary.
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
COMPUTED: Final[Mapping[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
}
CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}

Step = tuple[str, int | None]
"""From a node to one below it: a field, and the place in it if it is a list."""


class Mutant(NamedTuple):
    """One mistake: the node at a path of the module's tree becomes another one."""

    line: int
    original: str
    mutated: str
    path: tuple[Step, ...]
    node: ast.AST
    function: tuple[int, int] | None
    """The lines of the outermost function that it is in."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node stands."""

    path: tuple[Step, ...] = ()
    function: tuple[int, int] | None = None
    bound: Mapping[str, int] = field(default_factory=dict)
    """How often the innermost function binds each name."""
    annotates: bool = False
    tells: bool = False
    """It is part of the sentence of an error."""


def mutants_of(text: str) -> list[Mutant]:
    """All mutants of a module's text, by lines.

    Comparisons move their border and turn around, arithmetic takes the opposite operator, numbers are one more and one less, texts
    a letter longer, `and` and `or` change places and lose a side each, conditions are negated, None is returned, statements
    left out, min is max, sorted is list, slices lose a bound. Left alone are docstrings, sentences of errors, decorators,
    and of annotations all but numbers.
    """
    tree = ast.parse(text)
    found = []
    for place, node in _nodes(tree, _Place()):
        seen = {ast.dump(node)}
        for other in _mistakes(node, place):
            if ast.dump(other) not in seen:
                seen.add(ast.dump(other))
                original, mutated = _shown(tree, place.path, other)
                line = getattr(node, "lineno", 0) or getattr(getattr(node, "target", None), "lineno", 0)
                found.append(
                    Mutant(line or _line(tree, place.path), original, mutated, place.path, other, place.function)
                )
    return sorted(found, key=lambda mutant: mutant.line)


def with_mistake(text: str, mutant: Mutant) -> ast.Module:
    """The tree of a module's text with the mutant's mistake in it."""
    tree = ast.parse(text)
    _put(tree, mutant.path, copy.deepcopy(mutant.node))
    return ast.fix_missing_locations(tree)


def _nodes(node: ast.AST, place: _Place) -> Iterator[tuple[_Place, ast.AST]]:
    """The nodes that may be mistaken, each with where it is."""
    for name, value in ast.iter_fields(node):
        if name in {"decorator_list", "ctx", "op", "ops"}:
            continue
        below = (
            [((name, at), one) for at, one in enumerate(value)] if isinstance(value, list) else [((name, None), value)]
        )
        for step, one in below:
            if isinstance(one, ast.AST) and not _is_docstring(one):
                there = _below(place, step, one)
                yield there, one
                yield from _nodes(one, there)


def _below(place: _Place, step: Step, node: ast.AST) -> _Place:
    function, bound = place.function, place.bound
    if isinstance(node, ast.FunctionDef):
        function = function or (node.lineno, node.end_lineno or node.lineno)
        names = [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
        bound = Counter([*names, *(one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg))])
    return _Place(
        (*place.path, step),
        function,
        bound,
        place.annotates or step[0] in {"annotation", "returns"},
        place.tells or isinstance(node, ast.Raise | ast.JoinedStr),
    )


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _mistakes(node: ast.AST, place: _Place) -> Iterator[ast.AST]:
    if isinstance(node, ast.Constant):
        yield from _constants(node.value, place)
    if place.annotates:
        return
    if isinstance(node, ast.stmt) and place.function and _may_go(node, place):
        yield ast.Pass()
    match node:
        case ast.Compare(ops=operators):
            for at, operator in enumerate(operators):
                for other in COMPARED[type(operator)]:
                    yield ast.Compare(node.left, [*operators[:at], other(), *operators[at + 1 :]], node.comparators)
        case ast.BoolOp(op=joined, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(joined, ast.And) else ast.And(), values)
            for at in range(len(values)):
                rest = values[:at] + values[at + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(joined, rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp(op=computed) if type(computed) in COMPUTED:
            yield ast.BinOp(node.left, COMPUTED[type(computed)](), node.right)
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Call(func=ast.Name(id=name)) if name in CALLED:
            keywords = [] if name == "sorted" else node.keywords
            yield ast.Call(ast.Name(CALLED[name], ast.Load()), node.args, keywords)
        case ast.Slice():
            if node.lower:
                yield ast.Slice(None, node.upper, node.step)
            if node.upper:
                yield ast.Slice(node.lower, None, node.step)
            if node.step:
                yield ast.Slice(node.lower, node.upper, None)
        case _:
            pass
    if _is_condition(place.path[-1]) and isinstance(node, ast.expr) and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def _constants(value: object, place: _Place) -> Iterator[ast.AST]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case str() if not place.annotates and not place.tells:
            yield ast.Constant(value + "x")
        case bytes():
            yield ast.Constant(value + b"x")
        case _:
            pass


def _is_condition(step: Step) -> bool:
    return step[0] in {"test", "ifs"}


def _may_go(node: ast.stmt, place: _Place) -> bool:
    """Whether it makes a mistake to leave a statement out: without its only binding a name would be missed at once."""
    match node:
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.If() | ast.For() | ast.While() | ast.Break():
            return True
        case ast.Continue() | ast.Return(value=None) | ast.Delete():
            return True
        case ast.Assign(targets=targets):
            names = [one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            stored = [one.id for one in names if isinstance(one.ctx, ast.Store)]
            return all(place.bound.get(name, 0) > 1 for name in stored)
        case _:
            return False


def _at(tree: ast.AST, path: Iterable[Step]) -> ast.AST:
    node = tree
    for name, at in path:
        below = getattr(node, name)
        node = below if at is None else below[at]
    return node


def _put(tree: ast.AST, path: tuple[Step, ...], node: ast.AST) -> None:
    above, (name, at) = _at(tree, path[:-1]), path[-1]
    if at is None:
        setattr(above, name, node)
    else:
        getattr(above, name)[at] = node


def _line(tree: ast.AST, path: tuple[Step, ...]) -> int:
    """The line of the nearest node above that has one."""
    lines = (getattr(_at(tree, path[:length]), "lineno", 0) for length in range(len(path) - 1, -1, -1))
    return next((line for line in lines if line), 1)


def _shown(tree: ast.AST, path: tuple[Step, ...], node: ast.AST) -> tuple[str, str]:
    """How a mistake reads: with so much around it as makes a short line."""
    length = len(path)
    while length > 1:
        above = _at(tree, path[: length - 1])
        if not isinstance(
            above, ast.expr | ast.Assign | ast.AugAssign | ast.Return | ast.AnnAssign | ast.comprehension
        ):
            break
        if len(ast.unparse(above)) > 90:
            break
        length -= 1
    around = copy.deepcopy(_at(tree, path[:length]))
    before = ast.unparse(around)
    if length == len(path):
        around = node
    else:
        _put(around, path[length:], node)
    after = ast.unparse(ast.fix_missing_locations(around))
    return before.splitlines()[0], after.splitlines()[0]
