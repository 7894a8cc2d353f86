"""An independent reader of VNN-LIB texts, which evaluates them at exact points."""

import re
from fractions import Fraction


def parsed(text):
    """S-expressions as nested lists, comments dropped."""
    words = re.findall(r"[()]|[^\s()]+", re.sub(r";[^\n]*", "", text))
    stack = [[]]
    for word in words:
        if word == "(":
            stack.append([])
        elif word == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    assert len(stack) == 1
    return stack[0]


def value(term, values):
    return values[term] if term in values else Fraction(term)


def holds(term, values):
    operator, *arguments = term
    if operator in ("and", "or"):
        return (all if operator == "and" else any)(holds(part, values) for part in arguments)
    left, right = (value(part, values) for part in arguments)
    return left <= right if operator == "<=" else left >= right


def satisfied(text, x, outputs):
    """Whether every assertion holds, with X_i or X[0,i] for the input and the same for Y."""
    flat = re.sub(r"([XY])\[0,\s*(\d+)\]", r"\1_\2", text)
    values = {f"X_{i}": v for i, v in enumerate(x)} | {f"Y_{i}": v for i, v in enumerate(outputs)}
    return all(holds(term[1], values) for term in parsed(flat) if term[0] == "assert")
