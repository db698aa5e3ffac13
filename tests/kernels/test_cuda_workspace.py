"""Workspaces: one for each stream and for each capture, and the first stream waits for none."""

from __future__ import annotations

import threading

import pytest

from csbviz.ops.cuda import workspace
from csbviz.ops.cuda.workspace import PerStream


@pytest.fixture
def captures(monkeypatch) -> dict[int, int]:
    """Numbers of captures by stream, in place of the driver's."""
    found: dict[int, int] = {}
    monkeypatch.setattr(workspace, "_capture_id", lambda stream: found.get(stream, 0))
    return found


def test_streams_and_captures_have_their_own(captures):
    made = iter("bcdefg")
    kept = PerStream("a")
    assert kept.get(7, made.__next__) == "a"
    assert kept.get(8, made.__next__) == "b"
    assert [kept.get(7, made.__next__), kept.get(8, made.__next__)] == ["a", "b"]
    captures[7] = 31
    assert kept.get(7, made.__next__) == "c"
    assert kept.get(7, made.__next__) == "c"  # calls in one capture follow each other
    captures[7] = 32
    assert kept.get(7, made.__next__) == "d"
    captures.clear()
    assert kept.get(7, made.__next__) == "a"
    assert len(kept) == 4


def test_the_stream_of_a_thread_is_another_one_in_another_thread(captures):
    kept, found = PerStream(0), []
    made = iter(range(1, 9))
    for _ in range(2):
        found.append(kept.get(2, made.__next__))
    thread = threading.Thread(target=lambda: found.append(kept.get(2, made.__next__)))
    thread.start()
    thread.join()
    assert found == [0, 0, 1]


def test_the_default_stream_is_never_captured():
    assert workspace._capture_id(0) == 0  # without asking a driver
