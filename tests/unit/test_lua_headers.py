"""Every script's header says what its caller passes, and no script builds a key."""

import ast
import re
from pathlib import Path

import pytest

import agentherd.layout
from agentherd.layout.operations import script_source

LAYOUT = Path(agentherd.layout.__file__).parent
SCRIPTS = sorted(path.stem for path in (LAYOUT / "lua").glob("*.lua"))
HEADER = re.compile(r"-- (KEYS|ARGV)\[(\d+)(\.\.\.)?\] (\w+): \S.*")


def header(name: str) -> list[str]:
    lines = script_source(name).splitlines()
    return lines[: next(n for n, line in enumerate(lines) if not line.startswith("--"))]


def declared(name: str, kind: str) -> tuple[list[str], bool]:
    """The names of KEYS or ARGV in the header, and whether further ones follow."""
    found = [match for line in header(name) if (match := HEADER.fullmatch(line))]
    found = [match for match in found if match[1] == kind]
    assert [int(match[2]) for match in found] == list(range(1, len(found) + 1))
    rest = [match for match in found if match[3]]
    assert rest in ([], found[-1:]), "only the last may stand for many"
    return [match[4] for match in found if not match[3]], bool(rest)


def calls() -> dict[str, list[ast.Call]]:
    """Every `Script(...)` of the layout, by the script's name."""
    found: dict[str, list[ast.Call]] = {}
    for path in sorted(LAYOUT.glob("*.py")):
        for node in ast.walk(_with_local_dicts(ast.parse(path.read_text(encoding="utf-8")))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Script":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                found.setdefault(str(node.args[0].value), []).append(node)
    return found


def _with_local_dicts(tree: ast.AST) -> ast.AST:
    """The tree with names in calls replaced by the dict that the same function gave them."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        dicts = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Name):
                node.value = dicts.get(node.value.id, node.value)
    return tree


def passed(call: ast.Call, keyword: str) -> list[str]:
    value = next((item.value for item in call.keywords if item.arg == keyword), None)
    assert isinstance(value, ast.Dict), f"line {call.lineno}: {keyword} must be a dict literal"
    return [str(key.value) for key in value.keys if isinstance(key, ast.Constant)]


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 10


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_has_the_agreed_form(name: str) -> None:
    first, *others = header(name)
    assert re.fullmatch(rf"-- {name}: \S.*[.?]", first)
    assert all(HEADER.fullmatch(line) or line.startswith("-- Reply: ") for line in others)
    assert any(line.startswith("-- Reply: ") for line in others)


@pytest.mark.parametrize("name", SCRIPTS)
def test_callers_pass_what_the_header_names(name: str) -> None:
    script_calls = calls().get(name, [])
    assert script_calls, "nobody calls it"
    keys, more_keys = declared(name, "KEYS")
    args, more_args = declared(name, "ARGV")
    assert not more_keys
    for call in script_calls:
        assert passed(call, "keys") == keys
        assert passed(call, "args") == args
        assert any(keyword.arg == "rest" for keyword in call.keywords) == more_args


@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_name_keys_only_by_KEYS(name: str) -> None:  # noqa: N802
    """The first argument of a command is KEYS[...], or goes through a list of nothing else."""
    source = script_source(name)
    listed = re.findall(r"for \w+, (\w+) in ipairs\(\{((?:KEYS\[\d+\](?:, )?)+)\}\)", source)
    allowed = {variable for variable, _keys in listed}
    commands = re.findall(r"redis\.p?call\(\s*'(\w+)'\s*(?:,\s*([^,)]+))?", source)
    assert len(commands) == source.count("redis.call(") + source.count("redis.pcall(") > 0
    for command, argument in commands:
        if command != "TIME":
            key = argument.strip()
            assert re.fullmatch(r"KEYS\[\w+\]", key) or key in allowed, f"{command} {key}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_use_no_more_keys_and_arguments_than_named(name: str) -> None:
    source = "\n".join(
        line for line in script_source(name).splitlines() if not line.startswith("--")
    )
    for kind in ("KEYS", "ARGV"):
        names, more = declared(name, kind)
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", source)}
        assert more or max(used, default=0) <= len(names)
