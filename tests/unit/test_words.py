"""Author and reason of what people decide: one line of text, refused otherwise wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstops.errors import ConfigError
from lstops.publish.bundle import build_bundle
from lstops.publish.notices import withdrawal_of
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import supersede, withdraw
from lstops.words import MAX_LENGTH, checked_words, printable

from .published_site import FOLDER, make_request, make_site


def test_good_words_become_one_line() -> None:
    assert checked_words("it", " Ana\n María ", "clouds (see the\r\nlogbook), 50 % – no «sky»\n") == (
        "Ana María",
        "clouds (see the logbook), 50 % – no «sky»",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs an author and a reason"),
        (" \n", "needs an author and a reason"),
        ("\x1b[31mred", r"holds the character '\x1b'"),
        ("a\0b", r"holds the character '\x00'"),
        ("a\udc80", r"holds the character '\udc80'"),
        ("abc\u202edef", r"holds the character '\u202e'"),
        ("x" * (MAX_LENGTH + 1), "has 1001 characters, the most is 1000"),
    ],
)
def test_other_words_are_refused(text: str, words: str) -> None:
    for author, reason in (("Ana", text), (text, "clouds")):
        with pytest.raises(ConfigError) as caught:
            checked_words("the withdrawal of v0001", author, reason)
        assert words in caught.value.what
        assert caught.value.what.isprintable()
        assert caught.value.remedy


def test_a_refused_word_leaves_no_notice(tmp_path: Path) -> None:
    layout = make_site(tmp_path / "site")
    for gammaness in (0.7, 0.8):
        publish(build_bundle(make_request(cuts={"gammaness": gammaness}), layout), layout)
    with pytest.raises(ConfigError, match="cannot be shown"):
        withdraw(FOLDER, "v0001", "Ana", "clouds\x1band more", layout)
    with pytest.raises(ConfigError, match="cannot be shown"):
        supersede(FOLDER, "v0002", f"{FOLDER}/v0001", "Ana\x07", "better", layout)
    assert list(layout.absolute(FOLDER).rglob("*[DN].txt")) == []
    remove_tree(layout.base / "DL3")


def test_a_notice_that_a_person_wrote_is_read_as_one_line(tmp_path: Path) -> None:
    version = tmp_path / "v0001"
    version.mkdir()
    (version / "WITHDRAWN.txt").write_text('author: "A\\0na"\nreason: "clouds\\n\\e[31mred"\nat: now\n')
    found = withdrawal_of(version)
    assert found is not None
    assert (found.author, found.reason) == ("A?na", "clouds??[31mred")
    assert printable("as it is") == "as it is"
