"""The pictures of a job's result over HTTP, and in the report."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from starlette.testclient import TestClient

from monk.report.asked import outcome
from monk.services import Services, utc_now
from tests.small_house import a_job
from tests.unit.test_drawings import HEAT, LINES

NASTY = {**HEAT, "title": "</title><script>alert(1)</script>", "columns": ['"><img src=x>', "b"]}


def done(services: Services, pictures: Any) -> str:
    services.queue.submit(a_job(), utc_now())
    job = services.queue.claim(utc_now(), 60.0)
    assert job is not None
    services.queue.finish(job, {"answer": "Done.", "pictures": pictures}, utc_now())
    return job.id


def test_a_picture_is_served_as_a_document_that_can_do_nothing(client: TestClient, services: Services) -> None:
    job_id = done(services, [LINES, NASTY])

    told = client.get(f"/jobs/{job_id}/pictures/2.svg")

    assert told.status_code == 200
    assert told.headers["content-type"] == "image/svg+xml; charset=utf-8"
    assert told.headers["x-content-type-options"] == "nosniff"
    policy = told.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "sandbox" in policy
    root = ET.fromstring(told.content)
    assert root.tag.endswith("svg")
    assert not [one for one in root.iter() if re.search("script|foreignObject|animate|set$", str(one.tag))]
    links = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith("href")]
    assert [link[:11] for link in links if not link.startswith("#")] in ([], ["data:image/"])
    assert client.get(f"/jobs/{job_id}/pictures/1.svg").content != told.content


@pytest.mark.parametrize("name", ["0.svg", "3.svg", "1", "1.png", "².svg", "-1.svg", "..%2f1.svg", "9" * 50 + ".svg"])
def test_a_picture_that_is_not_there_is_told(client: TestClient, services: Services, name: str) -> None:
    job_id = done(services, [LINES, HEAT])

    assert client.get(f"/jobs/{job_id}/pictures/{name}").status_code == 404


def test_a_job_without_pictures_and_one_whose_picture_is_none(client: TestClient, services: Services) -> None:
    plain, odd = done(services, None), done(services, [{"form": "pie"}])

    missing = client.get(f"/jobs/{plain}/pictures/1.svg")
    assert missing.status_code == 404 and "its result has none" in missing.json()["error"]["message"]
    refused = client.get(f"/jobs/{odd}/pictures/1.svg")
    assert refused.status_code == 400 and "known forms are lines and heat" in refused.json()["error"]["message"]
    assert client.get("/jobs/job_x/pictures/1.svg").status_code == 404


def test_the_report_keeps_what_can_be_drawn_under_its_number(services: Services) -> None:
    job = services.queue.get(done(services, [{"form": "pie"}, LINES, "x", NASTY]))

    kept = outcome(job, [])["pictures"]

    assert [(one["number"], one["title"]) for one in kept] == [(2, LINES["title"]), (4, NASTY["title"])]


def test_the_page_shows_pictures_as_data_and_the_text_links_them() -> None:
    from monk.report.html import _drawn
    from monk.report.jobwords import _pictures
    from monk.report.markdown import _done
    from monk.report.view import JobView

    job = {"id": "job_1", "pictures": [{"number": 2, "title": NASTY["title"], "data": NASTY}]}
    view = JobView("job_1", "t", "", "bench", [], "", [], pictures=_pictures(job, "http://127.0.0.1:8420"))

    text = "\n".join(line for block in _done(view) for line in block)
    assert "<http://127.0.0.1:8420/jobs/job_1/pictures/2.svg>" in text and "\\<script>" in text
    assert _pictures(job, None)[0].link == _pictures(job, "http://127.0.0.1:8420/#")[0].link == ""
    address = _drawn(NASTY)
    svg = base64.b64decode(address.removeprefix("data:image/svg+xml;base64,"))
    assert ET.fromstring(svg).tag.endswith("svg")
