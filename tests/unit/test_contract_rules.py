"""Rules of the contract that hold for all inputs: paths, usage, texts."""

from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agentherd import InputFile, InvalidJob, Job, Usage
from agentherd.contract.base import check_text, well_formed
from agentherd.contract.files import RelativePath

PATH = TypeAdapter(RelativePath)
REFUSED_PATHS = [
    "", " ", ".", "./a", "a/./b", "a//b", "a/", "/", "/a", "//a", "..", "../a", "a/..", "a/../b",
    "~", "~root/x", "a\0b", "a\nb", "\x1fa", " a", "a ", "a\\b", "..\\a", "C:\\a", "a\ud800",
    "x" * 256, "é" * 128, "/".join(["abcdefg"] * 129),
]  # fmt: skip
SOME_PATHS = st.lists(
    st.sampled_from(["a", "b", "é", ".", "..", "", " ", "~", "\0", "\\", "c.txt", "..."]),
    min_size=1,
    max_size=5,
).map("/".join)


@pytest.mark.parametrize("path", REFUSED_PATHS)
def test_paths_that_leave_the_workspace_or_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(InvalidJob) as file:
        InputFile.of(path, "")
    assert [problem.field for problem in file.value.problems] == ["path"]
    with pytest.raises(InvalidJob) as pattern:
        Job(prompt="x", artifacts=[path])
    assert [problem.field for problem in pattern.value.problems] == ["artifacts.0"]


@pytest.mark.parametrize(
    "path", ["a", "a/b", ".git/config", "...", "a..b", "-rf", "[id].tsx", "ü ö", "é" * 127, "*/**"]
)
def test_ordinary_paths_are_accepted_as_they_are(path: str) -> None:
    assert InputFile.of(path, "").path == path


@given(SOME_PATHS | st.text(max_size=20))
@example("a/../../b")
def test_an_accepted_path_names_a_file_below_any_workspace(path: str) -> None:
    try:
        PATH.validate_python(path)
    except ValidationError:
        return
    root = PurePosixPath("/root/of/workspace")
    joined = root / path
    assert joined.parts[: len(root.parts)] == root.parts
    assert len(joined.parts) > len(root.parts)
    assert ".." not in joined.parts
    assert str(joined) == f"{root}/{path}"


@given(st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), min_size=1))
def test_accepted_files_can_all_be_written(paths: set[str]) -> None:
    """A naive oracle: no path is another one followed by a slash and more."""
    clash = any(other.startswith(f"{path}/") for path in paths for other in paths)
    try:
        Job(prompt="x", files=dict.fromkeys(paths, ""))
    except InvalidJob:
        assert clash
    else:
        assert not clash


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_a_file_keeps_its_content(content: str | bytes) -> None:
    try:
        file = InputFile.of("a", content)
    except InvalidJob:
        assert isinstance(content, str)
        with pytest.raises(UnicodeEncodeError):
            content.encode()
        return
    assert file.content == (content.encode() if isinstance(content, str) else content)


tokens = st.integers(0, 10**12)
flat = st.builds(
    Usage,
    cost_usd=st.integers(0, 10**6).map(float),  # whole numbers: their sums are exact
    input_tokens=tokens,
    output_tokens=tokens,
    cache_read_tokens=tokens,
    cache_write_tokens=tokens,
)
usages = st.builds(
    lambda total, by_model: total.model_copy(update={"by_model": by_model}),
    flat,
    st.dictionaries(st.sampled_from(["opus", "sonnet", "haiku"]), flat),
)


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Usage() == a == Usage() + a


@given(usages, usages)
def test_usage_adds_model_by_model(a: Usage, b: Usage) -> None:
    total = a + b
    assert total.by_model.keys() == a.by_model.keys() | b.by_model.keys()
    for name in ("cost_usd", "input_tokens", "output_tokens", "cache_read_tokens"):
        assert getattr(total, name) == getattr(a, name) + getattr(b, name)
        for model, used in total.by_model.items():
            parts = [one.by_model[model] for one in (a, b) if model in one.by_model]
            assert getattr(used, name) == sum(getattr(part, name) for part in parts)


@given(st.text(st.characters(), max_size=30))
@example("\0")
@example("\ud800")
def test_text_is_refused_exactly_where_a_program_could_not_be_given_it(text: str) -> None:
    fits = _encodes(text) and "\0" not in text
    try:
        assert check_text(text) == text
    except ValueError:
        assert not fits
    else:
        assert fits


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


@given(st.text(st.characters()))
def test_well_formed_text_encodes_and_stays_where_it_did_already(text: str) -> None:
    result = well_formed(text)
    assert result.encode().decode() == result
    if _encodes(text):
        assert result == text
