import pytest
import torch

from csbviz.errors import OptionError
from csbviz.ops.threads import check_threads, cpu_count, use_threads


def test_threads_are_set_inside_and_restored():
    before = torch.get_num_threads()
    with use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), use_threads(1):
        raise KeyError
    assert torch.get_num_threads() == before


def test_bounds():
    assert check_threads(None) == cpu_count() >= 1
    assert check_threads(1) == 1
    for threads in (0, -1, cpu_count() + 1):
        with pytest.raises(OptionError, match=f"between 1 and {cpu_count()}"):
            check_threads(threads)
