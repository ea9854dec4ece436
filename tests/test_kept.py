"""What was parsed is kept: by content, in the process and on disk, and never in the way of a run."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from simulator import inputs
from simulator.errors import InputError
from simulator.inputs import cache, kept, parse

TEXT = "name: small\nnode: {gpus: 4, rate: .inf}\nlist:\n  - 1e9\n  - no\n"
DATA = {"name": "small", "node": {"gpus": 4, "rate": float("inf")}, "list": [1e9, "no"]}
LINES = {
    ("name",): 1,
    ("node",): 2,
    ("node", "gpus"): 2,
    ("node", "rate"): 2,
    ("list",): 3,
    ("list", 0): 4,
    ("list", 1): 5,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the folder of kept files, empty and this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parse._kept.cache_clear()
    yield tmp_path / "cache" / "simulate" / "parsed"
    parse._kept.cache_clear()


def reread(text=TEXT):
    """Return a text's document as another process finds it: nothing is in memory."""
    parse._kept.cache_clear()
    return parse.parse_yaml(text, "mine.yaml")


def test_a_kept_tree_is_the_parsed_one_with_its_lines_and_types(folder, monkeypatch):
    first = reread()
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(parse, "_parsed", None)  # it must not be parsed again
    again = reread()
    for document in (first, again):
        assert document.data == DATA
        assert document.lines == LINES
    assert [type(value) for value in again.data["list"]] == [float, str]


def test_a_changed_text_is_not_answered_by_what_was_kept_of_the_old_one(folder):
    path = folder.parents[1] / "mine.yaml"
    path.parent.mkdir(parents=True)
    seen = []
    for gpus in (4, 8, 4):
        path.write_text(TEXT.replace("gpus: 4", f"gpus: {gpus}"))
        seen.append(inputs.read(path).data["node"]["gpus"])
    assert seen == [4, 8, 4]
    assert len(list(folder.iterdir())) == 2


def test_who_changes_a_tree_changes_no_other_reading_of_it():
    reread().data["node"]["gpus"] = 5
    assert parse.parse_yaml(TEXT, "mine.yaml").data == DATA


@pytest.mark.parametrize("content", ["", "{", "[]", '{"data": {}}', '{"data": {}, "lines": [1]}'])
def test_a_file_that_keeps_no_tree_is_parsed_anew_and_replaced(folder, content):
    reread()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    cache.keep(kept.KIND, file.name, content.encode(), kept.MOST)
    assert reread().data == DATA
    assert file.read_bytes() == whole


def test_a_file_of_which_one_byte_changed_is_parsed_anew_and_replaced(folder):
    reread()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for changed in (whole.replace(b'"gpus": 4', b'"gpus": 5'), whole[:-1], b""):
        assert changed != whole
        file.write_bytes(changed)
        assert reread().data == DATA
        assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_done_without(folder):
    folder.parents[1].write_text("")  # a file stands where the folder should be
    assert reread().data == DATA
    assert reread().lines == LINES


def test_mistakes_are_not_kept(folder):
    for _ in range(2):
        with pytest.raises(InputError, match="is not YAML"):
            reread("a: [1")
    assert not folder.exists()


def test_many_may_keep_the_same_at_once(folder):
    tree = kept.Tree(DATA, LINES)
    with ThreadPoolExecutor(8) as pool:
        trees = list(pool.map(lambda _: kept.kept(TEXT, lambda: tree), range(32)))
    assert trees == [tree] * 32
    assert [file.suffix for file in folder.iterdir()] == [".json"]


def test_the_oldest_files_make_room(folder, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 3)
    for number in range(5):
        reread(f"number: {number}")
    assert len(list(folder.iterdir())) == 3
