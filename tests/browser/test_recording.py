"""Save a run as a recording and look at it again, in a real browser."""

import pytest
from playwright.sync_api import expect

from csbviz.bench.recordings import load_recording
from tests.browser.conftest import settled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_a_run_is_saved_and_opened_again(page, tmp_path):
    page.goto("/run?model=fashion_cnn&ops=A@B,A@x&ns=8")
    expect(page.get_by_text("Measures A·B and A·x")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Run", exact=True).click()
    verdict = page.locator(".st-key-verdict")
    expect(verdict).to_contain_text("for A·x CSB is", timeout=150_000)
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a recording").click()
    path = tmp_path / "mine.json"
    download.value.save_as(path)
    recording = load_recording(path)
    assert {record.op for record in recording.runs[0].records} == {"A@B", "A@x"}

    page.get_by_text("Look at a recording", exact=True).click()
    settled(page)
    expect(verdict).to_have_count(0)
    expect(page.get_by_role("button", name="Run", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Open a recording").click()
    page.locator('input[type="file"]').set_input_files(path)
    replayed = page.locator(".st-key-verdict-recorded")
    expect(replayed).to_contain_text(recording.label.upper())
    expect(replayed).to_contain_text("for A·x CSB is")
    expect(page.get_by_text("Not measured on this machine")).to_be_visible()

    page.get_by_text("Measure here", exact=True).click()
    settled(page)
    expect(verdict).to_contain_text("for A·x CSB is")
    expect(replayed).to_have_count(0)
