"""The routes, in-process, over real tables and small stand-ins."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from db.steps import NewThought, TokenBatch
from monk.api.page import TYPES
from monk.api.reports import accepted
from monk.services import Services, utc_now
from tests.small_house import a_job, run_to_the_end

GOOD = {"kind": "answer", "input": {"question": "Why?"}}


def test_a_submitted_job_is_on_disk_and_told_with_its_place(client: TestClient, services: Services) -> None:
    client.post("/jobs", json=GOOD)

    told = client.post("/jobs", json={**GOOD, "tags": ["a"], "budget": {"tokens": 9}})

    assert told.status_code == 201
    job = told.json()
    assert told.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["kind"], job["position"]) == ("queued", "answer", 1)
    assert set(job["forecast"]) == {"starts_at", "ends_at"}
    assert job["created_at"].endswith("+00:00")
    stored = services.queue.get(job["id"])
    assert (stored.tags, stored.budget, stored.seed) == (["a"], {"tokens": 9}, job["seed"])


def test_a_refused_body_stores_nothing(client: TestClient, services: Services) -> None:
    assert client.post("/jobs", json={**GOOD, "prority": 5}).status_code == 400
    assert sum(services.queue.counts().values()) == 0


def test_jobs_are_listed_newest_first_page_by_page(client: TestClient) -> None:
    ids = [client.post("/jobs", json=GOOD).json()["id"] for _ in range(5)]

    seen, cursor = [], None
    while True:
        page = client.get("/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert seen == ids[::-1]


def test_a_listing_is_filtered_by_state_kind_and_tag(client: TestClient, services: Services) -> None:
    services.queue.submit(a_job("one", tags=["x"], priority=1), utc_now())
    run_to_the_end(services)
    services.queue.submit(replace(a_job("two", tags=["x", "y"]), kind="think"), utc_now())

    def listed(query: str) -> list[str]:
        return [job["input"]["question"] for job in client.get(f"/jobs?{query}").json()["jobs"]]

    assert listed("state=done") == ["one"]
    assert listed("state=done&state=queued") == ["two", "one"]
    assert listed("kind=think") == ["two"]
    assert listed("tag=y") == ["two"]
    assert listed("tag=%00") == []


def test_a_listing_shows_the_beginning_of_a_long_input_and_the_job_shows_all(client: TestClient) -> None:
    question = "ж" * 100_000
    id_ = client.post("/jobs", content=question.encode()).json()["id"]

    assert client.get("/jobs").json()["jobs"][0]["input"] == {"question": "ж" * 1999 + "…"}
    assert client.get(f"/jobs/{id_}").json()["input"]["question"] == question


def test_a_listing_leaves_out_results_and_inputs_that_are_long_in_another_way(client: TestClient) -> None:
    messages = [{"role": "user", "content": "x" * 3000} for _ in range(40)]
    client.post("/jobs", json={"kind": "chat", "input": {"messages": messages}})
    client.post("/jobs", json={"kind": "chat", "input": {"messages": messages[:2]}})

    short, long = client.get("/jobs").json()["jobs"]

    assert long["input"] == {}
    assert [len(one["content"]) for one in short["input"]["messages"]] == [2000, 2000]
    assert "result" not in short


def test_a_job_shows_everything_that_happened_inside(client: TestClient, services: Services) -> None:
    id_ = client.post("/jobs", json=GOOD).json()["id"]
    job = services.queue.claim(utc_now(), 60)
    assert job is not None and job.lease_token is not None
    services.steps.save_step(job, "retrieve", [1, 2], utc_now(), utc_now())
    thought = services.steps.open_thought(job, NewThought("draft", 0, "h", "m", {}, 50, (1, 2)), utc_now())
    services.steps.append([TokenBatch(id_, job.lease_token, thought.id, 0, (5, 6), "Half ")], utc_now())
    services.steps.append([TokenBatch(id_, job.lease_token, thought.id, 2, (7,), "said")], utc_now())

    told = client.get(f"/jobs/{id_}").json()

    assert [step["name"] for step in told["steps"]] == ["retrieve"]
    assert [(one["state"], one["text"], one["num_tokens"]) for one in told["thoughts"]] == [("running", "Half said", 3)]
    assert told["events"]["cursor"] == services.events.newest()


def test_cancel_and_retry_move_a_job(client: TestClient) -> None:
    id_ = client.post("/jobs", json=GOOD).json()["id"]

    assert client.post(f"/jobs/{id_}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/jobs/{id_}/retry", content=b'{"deadline": null}').json()["state"] == "queued"
    assert client.post(f"/jobs/{id_}/retry").status_code == 409


def test_a_retry_may_bring_a_new_deadline_but_no_old_one(client: TestClient) -> None:
    id_ = client.post("/jobs", json=GOOD).json()["id"]
    client.post(f"/jobs/{id_}/cancel")

    assert client.post(f"/jobs/{id_}/retry", json={"deadline": "2020-01-01T00:00:00Z"}).status_code == 400
    later = (utc_now() + timedelta(days=1)).isoformat()
    assert client.post(f"/jobs/{id_}/retry", json={"deadline": later}).json()["deadline"] == later


def test_the_status_says_how_everything_is(client: TestClient) -> None:
    told = client.get("/status").json()

    assert told["night"]["open"] is False
    assert told["queue"] == dict.fromkeys(("waiting", "queued", "running", "done", "failed", "cancelled"), 0)
    assert told["engine"]["num_restarts"] == 2
    assert told["engine"]["decode_tokens_per_second"] == 5.0
    assert told["memory"]["available_bytes"] > 0 and told["disk"]["free_bytes"] > 0
    assert told["corpus"]["state"] == "idle"
    assert "answer" in told["kinds"]["names"]


def test_a_kind_that_cannot_be_used_is_a_problem_in_the_status(client: TestClient, services: Services) -> None:
    folder = services.settings.home / "jobs"
    folder.mkdir()
    (folder / "broken.md").write_text("no front matter")

    assert any("broken.md" in problem for problem in client.get("/status").json()["problems"])


def test_kinds_come_with_the_schema_of_their_input(client: TestClient) -> None:
    kinds = {kind["name"]: kind for kind in client.get("/kinds").json()["kinds"]}

    assert "question" in kinds["answer"]["input"]["properties"]
    assert kinds["answer"]["summary"]


def test_metrics_count_jobs_tokens_and_requests_by_route(client: TestClient) -> None:
    id_ = client.post("/jobs", json=GOOD).json()["id"]
    client.get(f"/jobs/{id_}")
    client.get("/surely/not/here")

    told = client.get("/metrics").text

    assert 'monk_jobs{state="queued"} 1.0' in told
    assert 'monk_engine_tokens_total{phase="decode"} 50.0' in told
    assert "monk_engine_restarts_total 2.0" in told
    assert 'monk_http_requests_total{method="GET",route="/jobs/{job_id}",status="200"} 1.0' in told
    assert 'route="unmatched",status="404"' in told
    assert id_ not in told


def test_a_night_is_opened_and_closed_by_hand(client: TestClient) -> None:
    until = (utc_now() + timedelta(hours=2)).isoformat()

    assert client.post("/night/open", json={"until": until}).json()["closes_at"] == until
    assert client.get("/night").json()["open"] is True
    assert client.post("/night/close").json()["open"] is False
    assert client.post("/night/close").status_code == 200
    assert client.post("/night/open").json()["closes_at"] is None


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00", 5])
def test_a_night_does_not_open_until_the_past_or_a_moment_without_offset(client: TestClient, until: object) -> None:
    told = client.post("/night/open", json={"until": until})

    assert (told.status_code, told.json()["error"]["param"]) == (400, "until")


def test_a_report_is_written_listed_and_read_in_three_forms(client: TestClient) -> None:
    written = client.post("/reports")
    id_ = written.json()["id"]

    assert written.status_code == 201
    assert [one["id"] for one in client.get("/reports").json()["reports"]] == [id_]
    assert client.get("/reports/latest.md").text == "# a quiet night\n"
    assert client.get(f"/reports/{id_}.json").json() == {"line": "a quiet night"}
    page = client.get(f"/reports/{id_}.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_without_an_ending_the_accept_header_decides() -> None:
    assert accepted("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8") == "html"
    assert accepted("text/markdown") == "md"
    assert accepted("*/*") == "json"


def test_a_report_before_the_first_is_not_found(client: TestClient) -> None:
    assert client.get("/reports/latest").status_code == 404


def test_the_corpus_is_read_and_searched(client: TestClient) -> None:
    assert client.get("/corpus").json()["documents"] == 0
    assert client.post("/corpus/sync").status_code == 202
    assert client.get("/corpus").json()["state"] == "reading"
    hits = client.get("/corpus/search", params={"q": "memory bandwidth", "k": 3}).json()["hits"]
    assert [(hit["file"], hit["place"]) for hit in hits] == [("handbook.md", {"line": 12})]
    elsewhere = {
        "q": "memory bandwidth",
        "folder": "other",
        "type": ["md", "pdf"],
        "tag": ["board"],
        "since": "2026-01-31",
    }
    assert client.get("/corpus/search", params=elsewhere).json()["hits"] == []
    assert client.get("/corpus/search", params={"q": "x", "since": "yesterday"}).status_code == 400


def test_a_schedule_is_kept_listed_and_removed(client: TestClient) -> None:
    told = client.post("/schedules", json={"name": "weekly", "cron": "0 21 * * fri", "job": GOOD})

    assert told.status_code == 201 and told.json()["next_at"] is not None
    assert [one["name"] for one in client.get("/schedules").json()["schedules"]] == ["weekly"]
    assert client.post("/schedules", json={"name": "weekly", "cron": "0 21 * * fri", "job": GOOD}).status_code == 409
    assert client.delete("/schedules/weekly").status_code == 200
    assert client.get("/schedules").json()["schedules"] == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"cron": "every day"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"name": ""}, "name"),
        ({"job": {"kind": "answer"}}, "job.input"),
        ({"job": {**GOOD, "deadline": "2030-01-01T00:00:00Z"}}, "job.deadline"),
        ({"job": {**GOOD, "idempotency_key": "k"}}, "job.idempotency_key"),
        ({"jobs": []}, "jobs"),
    ],
)
def test_a_schedule_that_could_not_work_is_refused(client: TestClient, change: dict[str, object], param: str) -> None:
    told = client.post("/schedules", json={"name": "n", "cron": "0 21 * * *", "job": GOOD, **change})

    assert (told.status_code, told.json()["error"]["param"]) == (400, param)


def test_the_page_loads_nothing_from_elsewhere_and_inserts_text_only(client: TestClient) -> None:
    page = client.get("/")
    files = {path: client.get(path).text for path in ("/", "/page.css", "/page.js")}

    assert page.headers["content-type"] == TYPES[".html"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for text in files.values():
        assert "https://" not in text and "//cdn" not in text
    for way_in in ("innerHTML =", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way_in not in files["/page.js"]
    assert "style=" not in files["/"] and "onclick=" not in files["/"]
