"""Holds answers against schema/openapi.yaml: the status, the headers, the type and every member of what the collector says must be described there."""

import json
import re
import urllib.parse

import jsonschema
import yaml

from parts import ROOT

SAMPLE = 6  # of the items of a list: each is held against the same schema
# What every answer of HTTP may have, whatever it is an answer to.
USUAL = {"date", "connection", "keep-alive", "content-type", "content-length", "transfer-encoding", "content-encoding", "vary", "cache-control",
         "content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "cross-origin-resource-policy",
         "strict-transport-security", "accept-ranges", "x-frame-options", "permissions-policy", "server"}
FORMATS = jsonschema.FormatChecker(())
FORMATS.checks("date-time")(lambda v: not isinstance(v, str) or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", v) is not None)
FORMATS.checks("date")(lambda v: not isinstance(v, str) or re.fullmatch(r"\d{4}-\d\d-\d\d", v) is not None)


def openapi():
    """The description as it is written: by libyaml, which takes an eighth of the time."""
    return yaml.load((ROOT / "schema/openapi.yaml").read_text(), yaml.CSafeLoader)


class Description:
    def __init__(self):
        self.text = openapi()
        self.operations = {(method.upper(), path): operation for path, operations in self.text["paths"].items() for method, operation in operations.items()}
        # What has fewer variables counts first: /openapi.yaml before /{file}.
        self.paths = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), path) for path in sorted(self.text["paths"], key=lambda p: p.count("{"))]
        self.validators, self.seen = {}, set()

    def resolve(self, node):
        while "$ref" in node:
            at = self.text
            for step in node["$ref"].removeprefix("#/").split("/"):
                at = at[step]
            node = at
        return node

    def closed(self, schema, close=True):
        """The schema without references, and such that a member that it does not name is an error."""
        schema = self.resolve(schema)
        made = dict(schema)
        for word in ("allOf", "anyOf", "oneOf"):
            if word in schema:
                made[word] = [self.closed(part, close and word != "allOf") for part in schema[word]]
        if "properties" in schema:
            made["properties"] = {name: self.closed(part) for name, part in schema["properties"].items()}
        for word in ("items", "additionalProperties", "propertyNames"):
            if isinstance(schema.get(word), dict):
                made[word] = self.closed(schema[word])
        if close and ("properties" in schema or "allOf" in schema) and "additionalProperties" not in schema:
            made["unevaluatedProperties"] = False
        return made

    def find(self, method, target):
        """The operation that the target is one of, and its path; None: there is none, or it is no target."""
        path = urllib.parse.unquote(target.split("?", 1)[0].split("#", 1)[0])
        for pattern, name in self.paths:
            if pattern.fullmatch(path) and (method, name) in self.operations:
                return self.operations[method, name], name
        return None, None

    def body(self, at, content, kind, body):
        assert kind in content, f"{at}: {kind} is not described"
        if body is None or not re.fullmatch(r"application/(.*\+)?json", kind):
            return
        if at + (kind,) not in self.validators:
            self.validators[at + (kind,)] = jsonschema.Draft202012Validator(self.closed(content[kind].get("schema", {})), format_checker=FORMATS)
        value = json.loads(body)
        if isinstance(value, dict) and isinstance(value.get("items"), list) and len(value["items"]) > SAMPLE:
            value["items"] = value["items"][:SAMPLE - 1] + value["items"][-1:]
        fault = jsonschema.exceptions.best_match(self.validators[at + (kind,)].iter_errors(value))
        assert fault is None, f"{at}: {fault.json_path}: {fault.message[:600]}"

    def check(self, method, target, status, headers, body):
        """`headers` has lower-case names; `body` None: it is not to be had, as of HEAD, or it is encoded."""
        operation, path = self.find("GET" if method == "HEAD" else method, target)
        if operation is None:
            at, responses = (method, "no operation", status), {"default": self.text["components"]["responses"]["Problem"]}
        else:
            at, responses = (method, path, status), operation["responses"]
            self.seen.add(at)
        assert str(status) in responses or status >= 400 and "default" in responses, f"{at}: the status is not described"
        response = self.resolve(responses.get(str(status), responses.get("default")))
        described = {name.lower() for name in response.get("headers", {})}
        assert set(headers) - USUAL <= described, f"{at}: not described: {set(headers) - USUAL - described}"
        for name, header in response.get("headers", {}).items():
            assert not self.resolve(header).get("required") or name.lower() in headers, f"{at}: {name} is missing"
        kind = headers.get("content-type", "").split(";")[0].strip()
        if body or response.get("content") and method != "HEAD":
            assert response.get("content"), f"{at}: no body is described"
            self.body(at, response["content"], kind if "*/*" not in response["content"] else "*/*", body)

    def check_answer(self, answer, body):
        """The same of an answer of requests."""
        self.check(answer.request.method, answer.request.path_url, answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body or None)
