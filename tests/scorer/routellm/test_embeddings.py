"""The client of an embeddings endpoint, over a real socket."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorer.routellm import embeddings
from scorer.routellm.embeddings import Embeddings
from scorer.routers.base import Unscorable
from scorer.sections import EmbeddingsConfig
from tests.scorer.routellm.endpoint import DIMENSION, Endpoint, Reply, refusal, vector


def client(endpoint: Endpoint, **changes: Any) -> Embeddings:
    return Embeddings(endpoint.settings(**changes), DIMENSION)


def fault(embed: Embeddings, *texts: str) -> Unscorable:
    with pytest.raises(Unscorable) as raised:
        embed(texts or ("text",))
    assert "\n" not in str(raised.value)
    return raised.value


def test_a_batch_is_one_call_and_comes_back_in_its_order(endpoint: Endpoint) -> None:
    texts = ["a", "b", "a", "c\n\x00 ünïcode 你好"]
    vectors = client(endpoint)(texts)
    np.testing.assert_array_equal(vectors, [vector(text) for text in texts])
    assert endpoint.asked == [["a", "b", texts[3]]]
    assert endpoint.path == "/v1/embeddings"
    assert endpoint.headers["Authorization"] == "Bearer sk-secret"


def test_numbers_instead_of_base64_are_read_as_well(endpoint: Endpoint) -> None:
    endpoint.encoded = lambda _, text: vector(text).tolist()  # type: ignore[assignment,method-assign]
    np.testing.assert_array_equal(client(endpoint)(["a", "b"]), [vector("a"), vector("b")])


def test_items_without_an_index_are_taken_in_their_order(endpoint: Endpoint) -> None:
    endpoint.reply = lambda body: (
        200,
        json.dumps({"data": [{"embedding": vector(text).tolist()} for text in body["input"]]}).encode(),
    )
    np.testing.assert_array_equal(client(endpoint)(["a", "b"]), [vector("a"), vector("b")])


def test_no_key_sends_none(endpoint: Endpoint) -> None:
    client(endpoint, key=None)(["a"])
    assert "Authorization" not in endpoint.headers


def test_what_is_known_is_not_asked_again(endpoint: Endpoint) -> None:
    embed = client(endpoint)
    embed(["a", "b"])
    np.testing.assert_array_equal(embed(["b", "c", "a"]), [vector("b"), vector("c"), vector("a")])
    assert endpoint.asked == [["a", "b"], ["c"]]


def test_the_cache_forgets_what_was_used_least_lately(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_KEPT", 2)
    embed = client(endpoint)
    for text in ("a", "b", "a", "c", "a", "b"):
        embed([text])
    assert endpoint.asked == [["a"], ["b"], ["c"], ["b"]]


def test_blank_texts_are_not_sent_and_get_zeros(endpoint: Endpoint) -> None:
    vectors = client(endpoint)(["", " \n", "a"])
    assert not vectors[:2].any()
    assert endpoint.asked == [["a"]]
    assert client(endpoint)([]).shape == (0, DIMENSION)


def test_many_texts_are_several_calls(endpoint: Endpoint) -> None:
    texts = [f"text {i}" for i in range(300)]
    vectors = client(endpoint)(texts)
    np.testing.assert_array_equal(vectors, [vector(text) for text in texts])
    assert [len(asked) for asked in endpoint.asked] == [128, 128, 44]


def test_the_connection_is_kept(endpoint: Endpoint) -> None:
    embed = client(endpoint)
    for i in range(20):
        embed([str(i)])
    assert endpoint.opened == 1


def test_a_connection_closed_meanwhile_is_opened_again(endpoint: Endpoint) -> None:
    embed = client(endpoint)
    embed(["a"])
    assert embed._connection.sock is not None
    embed._connection.sock.shutdown(socket.SHUT_RDWR)
    np.testing.assert_array_equal(embed(["b"]), [vector("b")])
    assert endpoint.opened == 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_fault_is_tried_again(endpoint: Endpoint, status: int) -> None:
    replies = iter([refusal(status, "later"), refusal(status, "later")])
    endpoint.reply = lambda body: next(replies, None) or endpoint.embed(body)
    np.testing.assert_array_equal(client(endpoint)(["a"]), [vector("a")])
    assert len(endpoint.asked) == 3


def test_tries_are_bounded_in_number(endpoint: Endpoint) -> None:
    endpoint.reply = lambda _: refusal(429, "You exceeded your current quota")
    assert str(fault(client(endpoint))) == f"{endpoint.url}: http 429: You exceeded your current quota"
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize("status", [200, 503])
def test_tries_are_bounded_in_time(endpoint: Endpoint, status: int) -> None:
    endpoint.seconds = 0.15
    endpoint.reply = lambda body: endpoint.embed(body) if status == 200 else refusal(status, "later")
    embed, began = client(endpoint, timeout_ms=100), time.monotonic()
    assert str(fault(embed)) == f"{endpoint.url}: no answer within 100 ms"
    assert time.monotonic() - began < 0.14


def test_an_answer_that_trickles_in_is_given_up_in_time() -> None:
    """Every read returns something; the whole never comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.02)

        threading.Thread(target=trickle, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        embed, began = Embeddings(EmbeddingsConfig(url=url, timeout_ms=200), DIMENSION), time.monotonic()
        assert str(fault(embed)) == f"{url}: no answer within 200 ms"
        assert time.monotonic() - began < 0.4


def test_an_endpoint_that_is_down_says_so(endpoint: Endpoint) -> None:
    embed = client(endpoint)
    endpoint.stop()
    assert str(fault(embed)).startswith(f"{endpoint.url}: cannot be reached (")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (refusal(401, "Incorrect API key provided: sk-secret."), "the key is refused (http 401: Incorrect API key"),
        (
            refusal(404, "The model does not exist"),
            "no such address, or no model 'text-embedding-3-small' (http 404: T",
        ),
        ((301, b"<html>moved</html>"), "http 301: <html>moved</html>"),
        ((418, b""), "http 418: no reason given"),
        ((200, b"<html>"), "answers no embeddings: "),
        ((200, b'{"data": [{"embedding": "!"}]}'), "answers no embeddings: "),
        ((200, b'{"data": [{"embedding": "AAA="}]}'), "answers no embeddings: "),
        ((200, b'{"data": []}'), "answers 0 embeddings for 1 texts"),
        ((200, b'{"data": [{"embedding": [1.0], "index": 3}]}'), "answers 1 embeddings for 1 texts"),
        ((200, b'{"data": [{"embedding": [1.0, 2.0]}]}'), "answers 2 dimensions, the checkpoint was made with 1536"),
        ((200, b'{"data": [{"embedding": [%s 1e99]}]}' % (b"0," * 1535)), "answers embeddings with NaN or infinity"),
    ],
)
def test_a_fault_is_one_line_without_the_key_and_is_not_tried_again(
    endpoint: Endpoint, reply: Reply, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.reply = lambda _: reply
    with caplog.at_level(logging.WARNING):
        said = str(fault(client(endpoint)))
    assert said.startswith(f"{endpoint.url}: ")
    assert says in said
    assert "sk-secret" not in said + caplog.text
    assert len(endpoint.asked) == 1


def test_an_endpoint_that_fails_is_left_alone_for_a_while(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    embed = client(endpoint, timeout_ms=60)
    endpoint.seconds = 0.1
    for _ in range(3):
        fault(embed)
    began = time.monotonic()
    assert "no answer within 60 ms; not asked again for" in str(fault(embed))
    assert time.monotonic() - began < 0.02
    assert len(endpoint.asked) == 3
    assert len(caplog.records) == 1
    endpoint.seconds = 0.0
    embed._breaker._retry_at = 0.0  # the pause is over
    np.testing.assert_array_equal(embed(["text"]), [vector("text")])


def refuses_longer(endpoint: Endpoint, most: int) -> None:
    """A 400 for every call with a longer input, as OpenAI's."""
    endpoint.reply = lambda body: (
        refusal(400, "maximum context length") if max(map(len, body["input"])) > most else endpoint.embed(body)
    )


def test_a_long_text_is_asked_alone_and_cut_only_if_refused(endpoint: Endpoint) -> None:
    refuses_longer(endpoint, 20_000)
    long, longer = "word " * 2000, "word " * 20_000
    vectors = client(endpoint)(["a", long, "b", longer])
    np.testing.assert_array_equal(vectors, [vector("a"), vector(long), vector("b"), vector(longer[:8191])])
    assert endpoint.asked == [["a", "b"], [long], [longer], [longer[:8191]]]


def test_a_text_is_cut_between_characters(endpoint: Endpoint) -> None:
    refuses_longer(endpoint, 8191)
    client(endpoint)(["字" * 9000])
    assert endpoint.asked[-1] == ["字" * 2730]


def test_a_long_text_that_fails_fails_alone(endpoint: Endpoint) -> None:
    refuses_longer(endpoint, 100)
    embed = client(endpoint)
    failed = fault(embed, "a", "word " * 9000, "b")
    assert failed.rows == {1}
    assert "http 400: maximum context length" in str(failed)
    asked = len(endpoint.asked)
    np.testing.assert_array_equal(embed(["a", "b"]), [vector("a"), vector("b")])
    assert len(endpoint.asked) == asked


def test_threads_take_turns(endpoint: Endpoint) -> None:
    embed, wrong = client(endpoint), []

    def ask(name: int) -> None:
        for i in range(10):
            text = f"{name} {i}"
            if not np.array_equal(embed([text])[0], vector(text)):
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not wrong
    assert len(endpoint.asked) == 40


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), status=st.sampled_from([200, 201, 400, 403, 500]))
def test_any_answer_is_an_embedding_or_one_line(endpoint: Endpoint, content: bytes, status: int) -> None:
    endpoint.reply = lambda _: (status, content)
    fault(client(endpoint, timeout_ms=500))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=40))
def test_any_text_can_be_asked_for(endpoint: Endpoint, text: str) -> None:
    assert client(endpoint)([text]).any() == bool(text.strip())
