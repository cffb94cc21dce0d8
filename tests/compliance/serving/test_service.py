"""The HTTP service over a real socket: answers, errors, pages, metrics, logs."""

from __future__ import annotations

import json
import logging
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from sparseft.compliance.serving.metrics import Metrics
from sparseft.compliance.serving.problems import KINDS
from sparseft.compliance.serving.service import make_app
from sparseft.errors import ConfigError
from tests.compliance.serving.cases import SCHEMA, Keywords, Service, serving

_CALL = {"id": "c1", "turns": [{"speaker": "agent", "text": "hello there"}]}


@pytest.fixture(scope="module")
def service() -> Any:
    with serving(Keywords(), max_turns=5, max_transcripts=4, api_version="7") as running:
        yield running


def _error(answer: Any, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    (error,) = answer.json().values()
    assert set(error) == {"kind", "message", "request_id"}
    assert (error["kind"], error["request_id"]) == (kind, answer.headers["X-Request-ID"])
    message: str = error["message"]
    return message


def test_one_transcript(service: Service) -> None:
    answer = service.post(_CALL)
    assert answer.status_code == 200
    content = answer.json()
    assert content["id"] == "c1" and content["schema"] == "demo" and content["review"] == []
    assert content["values"] == {"words": 3, "greeted": True, "verdict": "compliant"}
    assert content["provenance"]["words"] == {"source": "model"}
    jsonschema.validate(content["values"], service.client.get("/v1/schema").json()["json_schema"])


def test_a_list_in_order_where_one_fails_alone(service: Service) -> None:
    texts = ["hello", "boom secret", "refuse", "forbidden odd"]
    answer = service.post([{"id": f"t{n}", "text": text} for n, text in enumerate(texts)])
    assert answer.status_code == 200
    first, second, third, fourth = answer.json()
    assert [each["id"] for each in answer.json()] == ["t0", "t1", "t2", "t3"]
    assert first["values"]["greeted"] and fourth["values"]["verdict"] == "violation"
    assert fourth["review"] == ["it is odd"]
    assert second["error"] == "the evaluation failed; the log has more."
    assert third["error"] == "it was refused"
    assert "values" not in second


def test_a_transcript_without_id_is_named_after_its_request(service: Service) -> None:
    answer = service.post({"text": "hello"}, **{"X-Request-ID": "my.id_7-x"})
    assert answer.headers["X-Request-ID"] == "my.id_7-x"
    assert answer.json()["id"] == "my.id_7-x"
    listed = service.post([{"text": "a"}, {"text": "b"}], **{"X-Request-ID": "q"}).json()
    assert [each["id"] for each in listed] == ["q-0", "q-1"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "a%0d%0ab"])
def test_a_request_id_that_could_spoil_a_log_is_replaced(service: Service, given: str) -> None:
    answer = service.post(_CALL, **{"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        (b"", 400, "bad_json", "a body of JSON"),
        (b"{", 400, "bad_json", "a body of JSON"),
        (b"\xff\xfe", 400, "bad_json", "UTF-8"),
        (b'{"id": NaN, "text": "x"}', 400, "bad_json", "NaN"),
        (b'{"text": "x", "text": "y"}', 400, "bad_json", "twice"),
        (b'{"text": "\\ud83d"}', 400, "bad_json", "surrogates"),
        (b"[" * 100_000, 400, "bad_json", "JSON"),
        (b'{"id": 1' + b"0" * 5000 + b', "text": "x"}', 400, "bad_json", "digits"),
        (b"null", 422, "invalid_transcript", "JSON object"),
        (b'"text"', 422, "invalid_transcript", "JSON object"),
        (b"{}", 422, "invalid_transcript", "turns"),
        (b"[]", 422, "invalid_transcript", "1 to 4 transcripts"),
        (b'[{"text": "x"}, 3]', 422, "invalid_transcript", "transcript 1 of the list"),
        (b'{"turns": []}', 422, "invalid_transcript", "with words"),
        (b'{"text": " \\n\\t"}', 422, "invalid_transcript", "with words"),
        (b'{"turns": [{"speaker": "robot", "text": "x"}]}', 422, "invalid_transcript", "speaker"),
        (b'{"turns": [{"text": 3}]}', 422, "invalid_transcript", "turn 0"),
        (b'{"id": [1], "text": "x"}', 422, "invalid_transcript", "id"),
        (json.dumps({"turns": [{"text": "x"}] * 6}).encode(), 422, "invalid_transcript", "5 turns"),
        (json.dumps([{"text": "x"}] * 5).encode(), 422, "invalid_transcript", "got 5"),
        (b'{"text": "refuse"}', 422, "invalid_transcript", "it was refused"),
        (b'{"text": "boom secret"}', 500, "internal", "the log has more"),
    ],
)
def test_what_cannot_be_evaluated_is_told(
    service: Service, body: bytes, status: int, kind: str, says: str
) -> None:
    message = _error(service.post(body), status, kind)
    assert says in message
    assert "Traceback" not in message and "secret" not in message
    assert len(message) < 600


def test_paths_methods_and_types_that_are_not_known(service: Service) -> None:
    _error(service.client.get("/nothing"), 404, "not_found")
    answer = service.client.get("/v1/evaluations")
    _error(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    _error(service.post(b"text=x", **{"Content-Type": "text/plain"}), 415, "not_json")
    _error(service.post(b"\x1f\x8b", **{"Content-Encoding": "gzip"}), 415, "not_json")
    typed = service.post(_CALL, **{"Content-Type": "application/json; charset=utf-8"})
    assert typed.status_code == 200
    assert service.client.post("/v1/evaluations", content=json.dumps(_CALL)).status_code == 200


def test_health_readiness_and_schema(service: Service) -> None:
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {"status": "ready", "waiting": 0}
    content = service.client.get("/v1/schema").json()
    assert content["api_version"] == "7" and content["json_schema"] == SCHEMA.json_schema()
    assert content["critical"] == {"field": "verdict", "alarm": ["violation"]}
    assert [each["name"] for each in content["fields"]] == list(SCHEMA.names)


def test_the_description_is_openapi_and_its_example_works(service: Service) -> None:
    content = service.client.get("/openapi.json").json()
    assert content["openapi"].startswith("3.1") and content["info"]["version"] == "7"
    route = content["paths"]["/v1/evaluations"]["post"]
    body = route["requestBody"]["content"]["application/json"]
    for schema in (
        body["schema"],
        route["responses"]["200"]["content"]["application/json"]["schema"],
    ):
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(body["example"], body["schema"])
    answer = service.post(body["example"])
    assert answer.status_code == 200
    answered = route["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), answered)
    jsonschema.validate(service.post([_CALL, {"text": "boom"}]).json(), answered)
    refused = route["responses"]["400"]["content"]["application/json"]["schema"]
    jsonschema.validate(service.post(b"{").json(), refused)
    assert {"400", "408", "413", "415", "422", "500", "503", "504"} <= set(route["responses"])
    assert {"/healthz", "/readyz", "/metrics", "/v1/schema"} <= set(content["paths"])


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def test_the_page_for_people_needs_no_network(service: Service) -> None:
    answer = service.client.get("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = _Links()
    page.feed(answer.text)
    assert page.links == ["openapi.json"]
    assert "script" not in page.tags and "link" not in page.tags
    assert "@import" not in answer.text and "url(" not in answer.text
    for words in ("/v1/evaluations", "too_large", "verdict (critical)", "&lt;b&gt;hello"):
        assert words in answer.text
    assert "<b>hello" not in answer.text


_SAMPLE = re.compile(
    r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\+Inf|[0-9.e+-]+)\Z'
)


def test_metrics_follow_the_format_and_add_up() -> None:
    with serving(Keywords()) as service:
        for content in ("hello", "odd", "forbidden", "boom", "refuse"):
            service.post({"text": content})
        service.post([{"text": "forbidden odd"}, {"text": "boom"}])
        service.post(b"{")
        service.client.get("/some/secret/path")
        service.client.request("BREW", "/v1/evaluations")
        answer = service.client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n") and "secret" not in answer.text
    found: dict[str, float] = {}
    declared: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("#"):
            declared.add(line.split()[2])
            continue
        match = _SAMPLE.match(line)
        assert match, line
        assert re.sub("_(bucket|sum|count)$", "", match[1]) in declared or match[1] in declared
        assert line.rsplit(" ", 1)[0] not in found
        found[line.rsplit(" ", 1)[0]] = float(match[3])
    assert found["sparseft_evaluated_total"] == 4
    assert found["sparseft_failed_total"] == 3
    assert found["sparseft_reviewed_total"] == 2
    assert found["sparseft_alarms_total"] == 2
    evaluations = 'path="/v1/evaluations"'
    assert found[f'sparseft_requests_total{{method="POST",{evaluations},status="200"}}'] == 4
    assert found[f'sparseft_requests_total{{method="other",{evaluations},status="405"}}'] == 1
    assert found['sparseft_requests_total{method="GET",path="other",status="404"}'] == 1
    kinds = {"internal": 1, "invalid_transcript": 1, "bad_json": 1, "not_found": 1}
    for kind in KINDS:
        wanted = kinds.get(kind, 1 if kind == "method_not_allowed" else 0)
        assert found[f'sparseft_errors_total{{kind="{kind}"}}'] == wanted, kind
    assert found[f"sparseft_request_seconds_count{{{evaluations}}}"] == 8
    buckets = [
        v
        for k, v in found.items()
        if k.startswith(f"sparseft_request_seconds_bucket{{{evaluations}")
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 8
    assert found["sparseft_batch_transcripts_total"] == 7
    info = 'sparseft_service_info{schema="demo",title="A \\"demo\\" \\\\ of words"}'
    assert found[info] == 1


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.counter("c", "one\ntwo \\ three", [])
    metrics.add("c", 2.5, a='q"u\\o\nte')
    assert metrics.render() == (
        '# HELP c one\\ntwo \\\\ three\n# TYPE c counter\nc{a="q\\"u\\\\o\\nte"} 2.5\n'
    )


def test_the_log_names_requests_and_holds_nothing_of_a_transcript(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG), serving(Keywords()) as service:
        for text in ("hello Maria Jansen", "boom Maria Jansen", "refuse Maria Jansen"):
            service.post({"id": "Maria", "text": text}, **{"X-Request-ID": "r-1"})
        service.post(b'{"Maria": ')
        service.client.get("/Maria", params={"name": "Jansen"})
    ours = [each for each in caplog.records if each.name.startswith("sparseft")]
    lines = [each.getMessage() for each in ours]
    assert not [line for line in lines if "Maria" in line or "Jansen" in line]
    assert all(each.exc_info is None for each in ours)
    assert any(re.match(r"request r-1 POST /v1/evaluations 200 [0-9.]+ s", line) for line in lines)
    assert any("RuntimeError at " in line and "cases.py" in line for line in lines)


class _Broken(Keywords):
    """Its records cannot be counted: the service itself fails."""

    def evaluate(self, transcripts: Any) -> Any:
        raise SystemExit("Maria")


def test_an_evaluator_that_ends_its_thread_is_seen() -> None:
    with serving(_Broken()) as service:
        _error(service.post(_CALL), 500, "internal")
        _error(service.client.get("/healthz"), 503, "overloaded")
        _error(service.client.get("/readyz"), 503, "overloaded")
        _error(service.post(_CALL), 503, "overloaded")


def test_limits_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="limits above 0"):
        make_app(Keywords(), max_bytes=0)
    with pytest.raises(ConfigError, match="limits above 0"):
        make_app(Keywords(), wait_seconds=0)
    with pytest.raises(ConfigError, match="queue of at least"):
        make_app(Keywords(), queue=3, max_transcripts=4)
