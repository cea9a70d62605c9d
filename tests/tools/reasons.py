"""Every reason that the program can put in front of a person, read out of its source.

A reason that cannot be seen in the source (computed in a way not known here) is an error of its own, so that none
slips past the help page.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Reasons carried by something else: they are collected where that is made.
_CARRIERS = ("reason", "newest_reason")
_LOGS = ("emit", "emit_error")
#: What these are handed is read where they are called.
_COLLECTED_AT_CALLS = ("set", "__init__")


class UnseenReasonError(Exception):
    """A reason is computed in a way that this reader does not know."""


@dataclass
class Found:
    """Reasons, each with the conditions it was seen in (none: it comes with an error, or is an event's)."""

    conditions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, reasons: list[str], condition: str | None = None) -> None:
        for reason in reasons:
            self.conditions[reason].update({condition} if condition else set())


def collect(files: list[Path]) -> Found:
    """Return the reasons in these Python files."""
    found = Found()
    for file in files:
        _Reader(ast.parse(file.read_text(encoding="utf-8")), str(file), found).read()
    return found


class _Reader:
    def __init__(self, tree: ast.Module, name: str, found: Found) -> None:
        self._tree, self._name, self._found = tree, name, found
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def read(self) -> None:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, ast.Call):
                self._call(node)

    def _class(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            if isinstance(statement, ast.Assign) and any(_called(target) == "reason" for target in statement.targets):
                self._found.add(self._values(statement.value))

    def _call(self, node: ast.Call) -> None:
        name = _called(node.func)
        if name in _LOGS:
            return
        for keyword in node.keywords:
            if keyword.arg == "reason":
                self._found.add(self._values(keyword.value))
        if name == "set" and len(node.args) >= 3:
            self._found.add(self._values(node.args[2]), self._condition(node.args[0]))
        elif name == "Decision" and len(node.args) >= 3:
            self._found.add(self._values(node.args[2]), "Accepted")
        elif name == "progress" and len(node.args) >= 2:  # of a deletion, called from other modules too
            self._found.add(self._values(node.args[1]), "Reconciling")
        elif name == "Verdict" and node.args:
            self._found.add(self._values(node.args[0]), "DeletionBlocked")
        elif name == "Notice" and len(node.args) >= 2:
            self._found.add(self._values(node.args[1]))

    def _condition(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Attribute) and _called(node.value) == "ConditionType":
            return "".join(part.capitalize() for part in node.attr.split("_"))
        if isinstance(node, ast.Name):
            for value in self._assigned(node):
                return self._condition(value)
        return None

    def _values(self, node: ast.expr) -> list[str]:
        """Return the texts that an expression can be; none for what carries a reason from elsewhere."""
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else []
        if self._carried(node):
            return []
        parts = self._parts(node)
        if not parts:
            raise UnseenReasonError(f"{self._name}:{node.lineno}: cannot see which reason {ast.unparse(node)} is")
        return [value for part in parts for value in self._values(part)]

    def _carried(self, node: ast.expr) -> bool:
        """Tell whether a reason comes from where it is collected itself."""
        if isinstance(node, ast.Name):
            function = self._function(node)
            return function is not None and function.name in _COLLECTED_AT_CALLS
        # An event's "<condition><reason>" is a formatted text: both are collected where they are set.
        carrier = node.func if isinstance(node, ast.Call) else node
        return isinstance(node, ast.JoinedStr) or (isinstance(carrier, ast.Attribute) and carrier.attr in _CARRIERS)

    def _parts(self, node: ast.expr) -> list[ast.expr]:
        """Return the expressions that this one can come to."""
        match node:
            case ast.IfExp():
                return [node.body, node.orelse]
            case ast.BoolOp():
                return node.values
            case ast.Starred():
                return [node.value]
            case ast.Tuple():  # (reason, message), to be unpacked
                return node.elts[:1]
            case ast.Name():
                return list(self._assigned(node)) or list(self._handed_in(node))
        return []

    def _function(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        while (node := self._parents.get(node)) is not None:  # type: ignore[assignment]
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                return node
        return None

    def _assigned(self, name: ast.Name) -> Iterator[ast.expr]:
        """Yield what is assigned to a name in its function, or else in the module."""
        function = self._function(name)
        own = list(_assignments(ast.walk(function), name.id)) if function else []
        returned = list(self._unpacked(function, name.id)) if function else []
        yield from own + returned or _assignments(self._tree.body, name.id)

    def _unpacked(self, function: ast.AST, name: str) -> Iterator[ast.expr]:
        """Yield what a name is given where a function's answer is unpacked."""
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                for target in node.targets:
                    for position, part in enumerate(target.elts if isinstance(target, ast.Tuple) else []):
                        if isinstance(part, ast.Name) and part.id == name:
                            yield from self._returned(_called(node.value.func), position)

    def _returned(self, function: str | None, position: int) -> Iterator[ast.expr]:
        """Yield what stands at a position of a function's answers; answers of others in this module are followed."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef) and node.name == function:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                        yield inner.value.elts[position]
                    elif isinstance(inner, ast.Return) and isinstance(inner.value, ast.Call):
                        yield from self._returned(_called(inner.value.func), position)

    def _handed_in(self, name: ast.Name) -> Iterator[ast.expr]:
        """Yield what callers in this module hand in for a parameter."""
        function = self._function(name)
        if function is None:
            return
        parameters = [argument.arg for argument in function.args.args]
        if name.id not in parameters:
            return
        position = parameters.index(name.id)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _called(node.func) == function.name and len(node.args) > position:
                yield node.args[position]


def _assignments(nodes: Iterable[ast.AST], name: str) -> Iterator[ast.expr]:
    for node in nodes:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for part, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(part, ast.Name) and part.id == name:
                        yield value


def _called(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None
