"""The five jobs of the demo. Each prompt makes sense to a real model; the script behind it,
which tells the simulated one what to answer, is added for that one only."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from agentherd import Job, NewSession, ResumeSession, Subagent
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.demo import expectations
from agentherd_workers.devkit.demo.code_base import BUG, FAILING_TEST, FILES, FIX
from agentherd_workers.devkit.demo.expectations import Expectation
from agentherd_workers.devkit.model_api.steps import Step, ToolCall

TIMEOUT_S = 120.0
"""For each job; a simulated one takes a few seconds."""
MAIL = """\
From: Ada Lovelace
Subject: order

Dear shop, please send me three brass gears and two boxes of punched cards.
I need them by Friday, so please use the express service.
"""
ORDER_SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"article": {"type": "string"}, "quantity": {"type": "integer"}},
                "required": ["article", "quantity"],
            },
        },
        "express": {"type": "boolean"},
    },
    "required": ["customer", "items", "express"],
    "additionalProperties": False,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One job of the demo."""

    title: str
    job: Job
    expectation: Expectation
    shows: str
    """What a reader learns from it."""
    goes_on_with: "Part | None" = None
    """It starts when that one has ended, in the same session."""


def parts(*, simulated: bool) -> tuple[Part, ...]:
    """The jobs, for the simulated model or for a real one."""
    conversation = uuid4()
    fix = _fix(simulated, conversation)
    return (
        fix,
        _extract(simulated),
        _overspend(simulated),
        _review(simulated),
        _go_on(fix, conversation),
    )


def most_usd(chosen: tuple[Part, ...]) -> float:
    """The sum of the jobs' budgets."""
    return sum(part.job.max_budget_usd for part in chosen)


def _fix(simulated: bool, conversation: UUID) -> Part:
    prompt = (
        "The tests in this directory fail. Run `python3 -m unittest` to see how. Copy pricing.py"
        " to pricing.py.orig, then fix the bug in pricing.py; do not change the tests. Run the"
        " tests again with `python3 -m unittest 2> tests.txt`. When they pass, write your change"
        " as a patch: `diff -u --label a/pricing.py --label b/pricing.py pricing.py.orig"
        " pricing.py > fix.patch`. Say in one sentence what was wrong."
    )
    return Part(
        title="fix a failing test",
        shows="files go in, the agent works on them, a patch comes back as an artifact",
        expectation=expectations.fixes_the_test,
        job=Job(
            prompt=_prompt(
                simulated,
                prompt,
                _saying("I run the tests to see what fails.", _shell("python3 -m unittest")),
                _saying(
                    "A discount of 10 % took 10 cents off. I read the code.",
                    _shell("cp pricing.py pricing.py.orig"),
                    scripts.call("Read", file_path="pricing.py"),
                ),
                scripts.tool("Edit", file_path="pricing.py", old_string=BUG, new_string=FIX),
                _saying("Now the tests again.", _shell("python3 -m unittest 2> tests.txt")),
                scripts.bash(
                    "diff -u --label a/pricing.py --label b/pricing.py"
                    " pricing.py.orig pricing.py > fix.patch || [ $? = 1 ]"
                ),
                scripts.text("The discount was taken off as cents and not as percent."),
                # Asked by the job that goes on with this session, whose prompt has no script:
                # the model can only know this line from the conversation that comes back.
                scripts.text(
                    f"{FAILING_TEST} failed: discounted(2000, 10) gave 1990 instead of 1800."
                ),
            ),
            session=NewSession(id=conversation),
            files=FILES,
            artifacts=("fix.patch", "tests.txt"),
            allowed_tools=("Bash", "Read", "Edit"),
            max_budget_usd=0.5,
            timeout_s=TIMEOUT_S,
        ),
    )


def _extract(simulated: bool) -> Part:
    return Part(
        title="turn a mail into JSON",
        shows="the answer is JSON that fits a schema, or the job fails",
        expectation=expectations.fills_the_form,
        job=Job(
            prompt=_prompt(
                simulated,
                "Read mail.txt and hand in the order that it holds.",
                _saying("I read the mail.", scripts.call("Read", file_path="mail.txt")),
                scripts.structured(
                    {
                        "customer": "Ada Lovelace",
                        "items": [
                            {"article": "brass gear", "quantity": 3},
                            {"article": "box of punched cards", "quantity": 2},
                        ],
                        "express": True,
                    }
                ),
            ),
            files={"mail.txt": MAIL},
            output_schema=ORDER_SCHEMA,
            allowed_tools=("Read",),
            max_budget_usd=0.3,
            timeout_s=TIMEOUT_S,
        ),
    )


def _overspend(simulated: bool) -> Part:
    essay = Step(
        text="The history of herding dogs begins with the first flocks. " * 12,
        chunks=12,
        delay_s=0.1,
        output_tokens=4000,
    )
    return Part(
        title="break a budget of $0.01",
        shows="a spend limit ends a job; the failure says so in a word that programs can read",
        expectation=expectations.exceeds_its_budget,
        job=Job(
            prompt=_prompt(
                simulated,
                "Write an essay of 3000 words on the history of herding dogs, as your answer.",
                essay,
            ),
            max_budget_usd=0.01,
            timeout_s=TIMEOUT_S,
        ),
    )


def _review(simulated: bool) -> Part:
    task = "Review pricing.py: which line is wrong, and why? Answer in one sentence."
    finding = "Line 6 of pricing.py is wrong: it subtracts the percentage as if it were cents."
    script = scripts.script(
        task,
        _saying("I look at the file.", scripts.call("Read", file_path="pricing.py")),
        scripts.text(finding),
    )
    return Part(
        title="ask a subagent",
        shows="a subagent has its own prompt and tools; its cost and transcript are kept too",
        expectation=expectations.delegates,
        job=Job(
            prompt=_prompt(
                simulated,
                f"Give this to the subagent `reviewer`, and tell me what it says: {task}",
                scripts.subagent(script, kind="reviewer"),
                scripts.text(f"The reviewer says: {finding}"),
            ),
            files=FILES,
            subagents={
                "reviewer": Subagent(
                    description="Reviews a file and names its bugs.",
                    prompt="You review code. Read the file you are asked about; be brief.",
                    tools=("Read",),
                )
            },
            allowed_tools=("Task", "Read"),
            max_budget_usd=0.5,
            timeout_s=TIMEOUT_S,
        ),
    )


def _go_on(fix: Part, conversation: UUID) -> Part:
    return Part(
        title="go on with job 1",
        shows="a later job goes on with an earlier conversation, on whichever host takes it",
        expectation=expectations.remembers,
        goes_on_with=fix,
        job=Job(
            prompt="The files are gone now. From our conversation: what is the full name of the"
            " test that failed before your fix, and what did the code return? One sentence.",
            session=ResumeSession(id=conversation),
            max_budget_usd=0.2,
            timeout_s=TIMEOUT_S,
        ),
    )


def _prompt(simulated: bool, words: str, *steps: Step) -> str:
    return scripts.script(words, *steps) if simulated else words


def _saying(words: str, *calls: ToolCall) -> Step:
    """The model speaks, slowly enough to be read, and then calls tools."""
    return Step(text=words, tools=calls, chunks=5, delay_s=0.1)


def _shell(command: str) -> ToolCall:
    return scripts.call("Bash", command=command)
