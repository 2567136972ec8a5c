"""The tab Benchmark and its endpoint: only what is offered, rows as they come, Stop keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app_process import Served, Visit
from gradio_client import Client
from gradio_client.exceptions import AppError

from stseg.errors import InputError
from stseg.evaluation import Failure, Task
from stseg.records import Settings
from stseg.ui import benchmark
from stseg.ui import benchmark_work as work
from stseg.ui.benchmark_board import board_of
from stseg.ui.benchmark_work import Scores, scores_of, scoring_of
from stseg.ui.offered import ALL, SHIPPED, chosen, offered, splits
from stseg.ui.view import Context


def never() -> bool:
    return False


def test_only_offered_folders_and_lists_can_be_opened(tmp_path: Path) -> None:
    folders = offered([tmp_path])  # nothing to score in it
    assert list(folders) == [SHIPPED]
    with pytest.raises(InputError, match="There is no data set '/etc' here"):
        chosen(folders, "/etc")
    data_set = chosen(folders, SHIPPED)
    assert splits(data_set) == [ALL]
    for split in ("../../secret", "/etc/passwd"):
        with pytest.raises(InputError, match="There is no split"):
            scoring_of(data_set, split, [], Settings(), True)
    with pytest.raises(InputError, match="has no sequence dog") as caught:
        scoring_of(data_set, ALL, ["dog"], Settings(), True)
    assert str(data_set.root) not in str(caught.value)


@pytest.mark.parametrize(("asked", "taken"), [(None, 1), (1, 1), (2, 2)])
def test_triplets_are_as_published_unless_asked_otherwise(
    asked: int | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[Task] = []
    monkeypatch.setattr(work, "evaluate_task", lambda entries, task: tasks.append(task) or [])
    data_set = chosen(offered([]), SHIPPED)
    *_, latest = scores_of(scoring_of(data_set, ALL, [], Settings(stride=asked), False), never)
    assert tasks[0].settings.stride == latest.to_json()["settings"]["stride"] == taken


def test_a_stop_keeps_what_there_is(tiny_model: Path) -> None:
    data_set = chosen(offered([]), SHIPPED)
    settings = Settings(k=3, model=str(tiny_model), device="cpu", subsequence=10)
    scoring = scoring_of(data_set, ALL, [], settings, True)
    steps = scores_of(scoring, never)
    latest = None
    stop_now: list[bool] = []
    for latest in scores_of(scoring, lambda: bool(stop_now)):
        if latest.outcomes:
            stop_now.append(True)
    assert latest is not None
    assert latest.stopped
    assert 1 <= len(latest.scores) < 3
    assert latest.scores[0].pictures.keys() == {"best", "worst"}
    told = latest.to_json()
    assert told["settings"]["flow"] == "cached"
    own = replace(latest, settings=replace(latest.settings, model="/srv/job-1/mine.safetensors"))
    assert own.to_json()["model"] == own.to_json()["settings"]["model"] == "mine.safetensors"
    count = len(latest.scores)
    assert told["unscored"] == ["crossing", "orbit", "pause"][count:]
    assert f">Mean of {count} of 3</th>" in board_of(latest)
    *_, whole = steps  # goes on, and takes what was kept
    assert [each.name for each in whole.scores] == ["crossing", "orbit", "pause"]
    assert whole.scores[0] == latest.scores[0]
    assert whole.to_json()["unscored"] == []
    assert ">Mean</th>" in board_of(whole)
    # The pictures are below the table, beside what was published and not below that.
    board = board_of(whole)
    assert board.index("</table>") < board.index("Worst frames") < board.index('class="published"')


def test_the_file_is_that_of_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data_set = chosen(offered([]), SHIPPED)
    entries = data_set.choose()[0]
    begun = Scores(data_set, entries, [], Settings())
    failed = [Failure(each.name, "It is empty.") for each in entries]
    steps = [begun, replace(begun, outcomes=failed[:1]), replace(begun, outcomes=failed[:2])]
    monkeypatch.setattr(benchmark, "scores_of", lambda *_: iter(steps))
    context = Context(
        clip=None,
        shown=None,
        settings=Settings,
        plain_settings=Settings,
        own_model=lambda: tmp_path,
        eta=lambda: 0.01,
        stop=never,
        served=lambda: tmp_path,
        cache=None,
        compared=tuple,
        keep=lambda _: None,
        add_variant=lambda *_: (),
        keep_model=lambda _: None,
        archive=lambda _: None,
    )
    tab = benchmark.Benchmark(offered([]))
    planned = tab._planned(context, SHIPPED, ALL, [], "cached", 10)
    first, *later, last = tab._run(context, *planned)
    assert first.values is last.values is None  # what an earlier run left stays whole
    for step, done in zip(later, (1, 2), strict=True):
        assert step.values is not None
        table, button = step.values
        assert table.count('class="failed"') == done
        assert len(json.loads(Path(button["value"]).read_text())["failed"]) == done


@pytest.mark.browser
def test_rows_pictures_and_download(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Benchmark").click()
    page.wait_for_selector("#benchmark-start")
    page.click("#benchmark-start")
    page.wait_for_selector("#benchmark-board tbody tr", timeout=120_000)
    visit.wait_status("3 sequences of Rendered clips are scored.", 240)
    rows = page.locator("#benchmark-board .scores tbody tr")
    assert rows.count() == 3
    names = [rows.nth(index).locator("th").inner_text() for index in range(3)]
    assert names == ["crossing", "orbit", "pause"]
    head = page.inner_text("#benchmark-board .scores thead")
    assert all(word in head for word in ("J", "F", "Flicker", "J once"))
    mean = float(page.inner_text("#benchmark-board .scores tfoot td >> nth=0"))
    assert 40 < mean <= 100
    assert "nothing is published" in page.inner_text("#benchmark-board .published")
    pictures = page.locator("#benchmark-board .extremes img")
    assert pictures.count() == 6
    widths = pictures.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert set(widths) == {427}
    with page.expect_download() as waiting:
        page.click("#benchmark-download")
    report: dict[str, Any] = json.loads(Path(waiting.value.path()).read_text())
    assert report["settings"]["stride"] == 1  # though "automatic" is 2 elsewhere
    assert report["mean"]["J"] == pytest.approx(mean / 100, abs=0.001)
    assert set(report["sequences"]) == set(names)
    # A number that makes no sense is told as in the left column; table and file stay.
    page.fill("#benchmark-length input", "-1")
    page.click("#benchmark-start")
    visit.wait_status("Not done. A sub-sequence of -1 frames makes no sense.", 20)
    assert page.locator("#status progress").count() == 0
    assert rows.count() == 3
    assert page.is_enabled("#benchmark-download")
    # The page of the tab stays usable: what was scored comes again at once.
    page.fill("#benchmark-length input", "10")
    page.click("#benchmark-start")
    visit.wait_status("3 sequences of Rendered clips are scored.", 60)
    assert not [each for each in visit.errors if "Dependency function failed" not in each]
    assert not visit.outside


@pytest.fixture
def client(served: Served, tmp_path: Path) -> Iterator[Client]:
    client = Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)
    yield client
    client.close()


def test_the_endpoint(client: Client) -> None:
    report = client.predict(
        dataset=SHIPPED, sequences=["orbit"], k=3, flow="cached", api_name="/evaluate"
    )
    assert set(report["sequences"]) == {"orbit"}
    assert 0 < report["mean"]["J"] <= 1
    assert (report["settings"]["k"], report["settings"]["subsequence"]) == (3, 10)
    assert report["settings"]["stride"] == 1
    assert (report["flow"], report["split"]) == ("cached", "all")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"dataset": "/work"}, "There is no data set '/work' here"),
        ({"split": "../../../etc/passwd"}, "There is no split"),
        ({"flow": "/etc"}, "There is no flow estimator '/etc' here"),
        ({"model": "x.safetensors"}, "There is no model"),
        ({"sequences": ["nobody"]}, "has no sequence nobody"),
    ],
)
def test_no_other_place_of_the_server_is_opened(
    client: Client, choice: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(api_name="/evaluate", **choice)
