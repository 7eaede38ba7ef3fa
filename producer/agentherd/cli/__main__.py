"""Entry point of `agentherd` and of `python -m agentherd.cli`."""

import sys
from importlib.util import find_spec
from io import TextIOWrapper

USAGE = 2


def main() -> int:
    """Run the command line; does not return where a command ran."""
    if missing := [name for name in ("click", "rich") if find_spec(name) is None]:
        sys.stderr.write(
            f"agentherd: {' and '.join(missing)} not installed;"
            " the command line needs: pip install 'agentherd[cli]'\n"
        )
        return USAGE
    for stream in (sys.stdout, sys.stderr):
        # An agent's text may hold what the terminal's encoding, or any encoding, can't write.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from agentherd.cli.app import app

    app(prog_name="agentherd")
    return 0


if __name__ == "__main__":
    sys.exit(main())
