"""What an agent may try against its host and other jobs, and who lets it.

Each probe is a piece of shell that succeeds if the attack does. docs/isolation.md shows the same
table; a test compares the two.
"""

from dataclasses import dataclass
from typing import Literal

Confined = Literal["process, root", "process, own user", "bubblewrap"]
"""How the worker confines its agents, and as whom it runs."""

ROOT: tuple[Confined, ...] = ("process, root",)
PROCESS: tuple[Confined, ...] = ("process, root", "process, own user")
ALL: tuple[Confined, ...] = (*PROCESS, "bubblewrap")


@dataclass(frozen=True)
class Probe:
    """One attack.

    Its shell finds PREPARED variables: VICTIM (another job's directory), VICTIM_CLI, WORKER
    (pids), ROOT (of workspaces), CLOSED and OPEN (the host's folders, of root and for all), PORT
    (Redis's), DROWSSAP (its password, backwards, so that who looks for it does not find itself).
    """

    what: str
    """As docs/isolation.md says it."""
    shell: str
    works_under: tuple[Confined, ...] = ()


def _finds_password(paths: str) -> str:
    """Shell that looks for the password in the files that Python's `paths` yields."""
    return f"""python3 - <<'END'
import glob, os, sys
password = os.environ["DROWSSAP"][::-1].encode()
def memory(pid):
    with open(f"/proc/{{pid}}/maps") as maps, open(f"/proc/{{pid}}/mem", "rb") as content:
        for line in maps:
            if " rw" in line:
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                content.seek(start)
                yield content.read(end - start)
def files(*patterns):
    for pattern in patterns:
        for path in glob.iglob(pattern, recursive=True, include_hidden=True):
            try:
                yield open(path, "rb").read()
            except OSError:
                pass
sys.exit(not any(password in text for text in {paths}))
END"""


PROBES = (
    Probe("be root", 'test "$(id -u)" = 0', ROOT),
    Probe("read another job's files", 'grep -q secret "$VICTIM/workspace/secret.txt"', PROCESS),
    Probe("read another job's transcript", 'grep -rq secret "$VICTIM/config/projects"', PROCESS),
    Probe(
        "read another CLI's environment, which has the model's key",
        "grep -aq ANTHROPIC_API_KEY /proc/$VICTIM_CLI/environ",
        PROCESS,
    ),
    Probe(
        "read another CLI's arguments",
        "tr '\\0' ' ' < /proc/$VICTIM_CLI/cmdline | grep -q session",
        PROCESS,
    ),
    Probe("see the worker's process", "test -e /proc/$WORKER/status", PROCESS),
    Probe(
        "read the worker's environment, but for its settings",
        "grep -aq CANARY=canary /proc/$WORKER/environ",
        ROOT,
    ),
    Probe("read the worker's open files", "ls /proc/$WORKER/fd", ROOT),
    Probe(
        "find Redis's password in the worker's memory",
        _finds_password('memory(os.environ["WORKER"])'),
        ROOT,
    ),
    Probe(
        "find Redis's password in an environment or in arguments",
        _finds_password('files("/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline")'),
    ),
    Probe(
        "find Redis's password in a file of the worker",
        _finds_password('files(os.environ["ROOT"] + "/**")'),
    ),
    Probe("reach Redis's port", "exec 3<>/dev/tcp/127.0.0.1/$PORT", ALL),
    Probe(
        "use Redis",
        "exec 3<>/dev/tcp/127.0.0.1/$PORT && printf 'DBSIZE\\r\\n' >&3 && read -r -t 5 reply <&3"
        ' && [[ "$reply" != -NOAUTH* ]]',
    ),
    Probe("write where only root may", 'touch "$CLOSED/planted"', ROOT),
    Probe("write where any user may", 'touch "$OPEN/planted"', PROCESS),
    Probe("write into another job's directory", 'touch "$VICTIM/workspace/planted"', PROCESS),
    Probe(
        "change how the worker starts its next CLIs",
        'for script in "$ROOT"/workers/*/launch; do'
        ' chmod u+w "$script" && echo "# changed" >> "$script"; done',
        PROCESS,
    ),
    Probe("change the host's book of RAM", 'test -w "$ROOT/ledger"', PROCESS),
    Probe("signal the worker", "kill -0 $WORKER", PROCESS),
    Probe("signal another CLI", "kill -0 $VICTIM_CLI", PROCESS),
    Probe("take off the mark of its job", "ulimit -R 1000 || ulimit -R unlimited"),
    Probe("gain rights by a setuid program", "grep -q 'NoNewPrivs:.*0' /proc/self/status"),
)


def script_of(variables: dict[str, str]) -> str:
    """Shell that tries every probe and leaves in `succeeded.txt` what worked."""
    prepared = "\n".join(f"export {name}='{value}'" for name, value in variables.items())
    tried = "\n".join(
        f'if (\n{probe.shell}\n) >/dev/null 2>&1; then echo "{probe.what}" >> succeeded.txt; fi'
        for probe in PROBES
    )
    return f"{prepared}\ntouch succeeded.txt\n{tried}"
