"Every promise has a test that shows it, and no test claims a promise no one made."

import ast
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def listed() -> dict[str, dict]:
    path = HERE / "promises.toml"
    return {p["id"]: p for p in tomllib.loads(path.read_text(encoding="utf-8")).get("promise", [])}


def shown() -> dict[str, list[str]]:
    "promise id -> tests that name it"
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", None) == "promise":
                    for argument in mark.args:
                        found.setdefault(ast.literal_eval(argument), []).append(f"{path.name}::{node.name}")
    return found


def test_every_promise_is_shown_by_a_test():
    tests = shown()
    assert not [i for i, p in listed().items() if i not in tests and not p.get("by_person")]


def test_tests_name_known_promises_only():
    assert not {i: tests for i, tests in shown().items() if i not in listed()}


def test_promises_are_listed_once_and_say_something():
    lines = tomllib.loads((HERE / "promises.toml").read_text(encoding="utf-8")).get("promise", [])
    ids = [p["id"] for p in lines]
    assert len(ids) == len(set(ids))
    assert all(len(p["text"]) > 10 and set(p) <= {"id", "text", "by_person"} for p in lines)
