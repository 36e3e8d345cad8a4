"""`${{ }}` of a workflow as GitHub evaluates it: the part that ours use. All else is an error."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(
    r"\s*('(?:[^']|'')*'|&&|\|\||==|!=|[!(),]|[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)"
)
PASTED = re.compile(r"\$\{\{(.*?)\}\}")


class ExpressionError(AssertionError):
    """What this reader, and perhaps GitHub, does not know."""


class Loose(dict[str, Any]):
    """A context of which GitHub says nothing, and not an error, where a name is not there."""


@dataclass(frozen=True)
class Scope:
    """What names and functions mean where an expression stands."""

    contexts: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]

    def filled(self, text: Any) -> Any:
        """A value of a workflow with every `${{ }}` in it evaluated; text, once any was."""
        if not isinstance(text, str):
            return text
        return PASTED.sub(lambda found: as_text(self.value(found[1])), text)

    def holds(self, condition: str) -> bool:
        """Of an `if`, whose `${{ }}` may be left out."""
        whole = PASTED.fullmatch(condition.strip())
        return truth(self.value(whole[1] if whole else condition))

    def value(self, expression: str) -> Any:
        reader = _Reader(tokens(expression), self)
        value = reader.either()
        if reader.left:
            raise ExpressionError(f"{expression!r}: {reader.left[0]!r} is one too many")
        return value

    def named(self, path: str) -> Any:
        value: Any = self.contexts
        for part in path.split("."):
            if part not in value and not isinstance(value, Loose):
                raise ExpressionError(f"{path}: nothing is called {part!r} here")
            value = value.get(part, Loose())
        return "" if isinstance(value, Loose) and not value else value


def tokens(expression: str) -> list[str]:
    found, at = [], 0
    while expression[at:].strip():
        token = TOKEN.match(expression, at)
        if not token:
            raise ExpressionError(f"{expression!r}: cannot be read from {expression[at:]!r} on")
        found.append(token[1])
        at = token.end()
    return found


@dataclass
class _Reader:
    """By precedence, loosest first; as in GitHub, `||` and `&&` give one of their sides."""

    left: list[str]
    scope: Scope

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value if truth(value) else other
        return value

    def both(self) -> Any:
        value = self.compared()
        while self.take("&&"):
            other = self.compared()
            value = other if truth(value) else value
        return value

    def compared(self) -> Any:
        value = self.one()
        for sign, wanted in (("==", True), ("!=", False)):
            if self.take(sign):
                other = self.one()
                return (as_text(value).lower() == as_text(other).lower()) is wanted
        return value

    def one(self) -> Any:
        if self.take("!"):
            return not truth(self.one())
        if self.take("("):
            value = self.either()
            self.expect(")")
            return value
        word = self.left.pop(0) if self.left else ""
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if not re.match(r"[A-Za-z_]", word):
            raise ExpressionError(f"{word or 'the end'!r} stands where a value is expected")
        return self.called(word) if self.take("(") else self.scope.named(word)

    def called(self, name: str) -> Any:
        if name not in self.scope.functions:
            raise ExpressionError(f"{name}(): no such function is known here")
        arguments: list[Any] = []
        while not self.take(")"):
            arguments.append(self.either())
            if not self.take(","):
                self.expect(")")
                break
        return self.scope.functions[name](*arguments)

    def take(self, token: str) -> bool:
        if self.left[:1] != [token]:
            return False
        del self.left[0]
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise ExpressionError(f"{token!r} is missing before {self.left[:1]}")


def truth(value: Any) -> bool:
    return value not in (None, False, "", 0)


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def formatted(text: str, *values: Any) -> str:
    """GitHub's format()."""
    return text.format(*map(as_text, values))
