"""Invariant: whatever a program says, the dialogue engine raises nothing, stays small, and sends each secret at most once."""
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ramet.connectors.ssh_rules import exit_rules, question_rules
from ramet.kernel import dialogue

SECRETS = {"password": "s3cret-word", "passphrase": "an other one"}

pieces = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([
        b"password: ", b"\x1b[", b"\x1b]0;", b"\x07", b"\r\n", b"Enter passphrase for key 'k': ", b"(yes/no)? ",
        b"s3cret-word", b"\x1b", b"Password:" * 30, b"pass" * 2000, b"\xff" * 5000, "密码：".encode(),
    ]),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["tty", "stderr", "output"]), pieces), max_size=30))
def test_garbage(reads: list[tuple[str, bytes]]) -> None:
    engine = dialogue.Dialogue(question_rules(SECRETS), SECRETS)
    sent = b""
    for source, data in reads:
        for decision in engine.feed(source, data):
            sent += decision.data
            assert "s3cret" not in repr(decision)
    assert sent.count(b"s3cret-word\n") <= 1
    assert sum(len(seen) for seen in engine._seen.values()) <= 3 * dialogue.prompt_bytes_max


@given(st.lists(pieces, max_size=30))
def test_splitting_changes_no_answer(reads: list[bytes]) -> None:
    """A prompt that is complete at the end of a read gets the same answer however its bytes were split."""
    rules = [{"match": "password: \\Z", "do": "send", "send": "x", "max": 10**9}]
    text = b"".join(reads).replace(b"\x1b", b"").replace(b"\r", b"")[-2000:] + b"\npassword: "
    whole, split = dialogue.Dialogue(rules), dialogue.Dialogue(rules)
    last = whole.feed("tty", text)
    for at in range(len(text)):
        parts = split.feed("tty", text[at : at + 1])
    assert [d.data for d in last] == [d.data for d in parts] == [b"x\n"]


@given(st.binary(max_size=3000), st.one_of(st.none(), st.integers(-70, 300)))
def test_verdicts_and_tails(data: bytes, status: int | None) -> None:
    tail = dialogue.Tail(500)
    tail.add(data)
    dialogue.verdict(exit_rules("h", 22, {}), status, tail.text())
    assert "\x1b" not in tail.text()
    assert len(tail.data) <= 500
