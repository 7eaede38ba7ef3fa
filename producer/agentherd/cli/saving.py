"""Writing artifacts into a directory. Their names were chosen by an agent, so: never outside it."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.contract.files import RelativePath

_NAME: TypeAdapter[str] = TypeAdapter(RelativePath)


def plan_targets(directory: Path, names: Sequence[str], *, force: bool) -> dict[str, Path]:
    """Where each artifact goes. Writes nothing.

    Raises:
        CommandFailed: a name would leave `directory`, or a file exists and `force` is not set;
            lists all of them.
    """
    root = directory.resolve()
    targets = {name: root / name for name in names if _stays_inside(root, name)}
    problems = [
        f"{name!r} would leave {directory}; refused" for name in names if name not in targets
    ]
    for name, target in targets.items():
        if target.is_dir() and not target.is_symlink():
            problems.append(f"{name!r}: a directory is in its place")
        elif os.path.lexists(target) and not force:
            problems.append(f"{name!r} exists; --force replaces it")
    if problems:
        raise CommandFailed(ExitCode.USAGE, "nothing saved\n  " + "\n  ".join(problems))
    return targets


def save(target: Path, content: bytes, *, force: bool) -> None:
    """Write one artifact, whole or not at all. A link in its place is replaced, not followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".agentherd-")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
        if force:
            Path(temporary).replace(target)
        else:
            os.link(temporary, target)  # fails where the target exists
    finally:
        Path(temporary).unlink(missing_ok=True)


def _stays_inside(root: Path, name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    # A directory on the way may be a link that leads out.
    return (root / name).parent.resolve().is_relative_to(root)
