"""Holds answers against schema/openapi.yaml: the status, the headers, the type and every member of what the collector says must be described there."""

import csv
import io
import json
import re
import urllib.parse

import jsonschema
import yaml

from parts import ROOT

SAMPLE = 6  # of the items, lines or rows of a list: each is held against the same schema
NDJSON, CSV = "application/x-ndjson", "text/csv"
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


def applies(node, asked):
    """Whether `x-when` is so of a question: `format=ocsf`, or the name of a parameter that it has; with ! before it, has not."""
    when = node.get("x-when", "")
    name, _, value = when.removeprefix("!").partition("=")
    return not when or (asked.get(name) == value if value else name in asked) != when.startswith("!")


def row_of(cells, members):
    """A row as JSON has it; what is empty is not known, or a text without letters."""
    row = {}
    for (name, schema), text in zip(members.items(), cells):
        kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
        if "array" in kinds:
            row[name] = text.split(" ") if text else []
        elif text == "" and ("null" in kinds or "string" in kinds and not {"enum", "pattern", "format"} & set(schema)):
            row[name] = None if "null" in kinds else ""
        elif "integer" in kinds and re.fullmatch("-?[0-9]+", text):
            row[name] = int(text)
        elif "boolean" in kinds and text == "true":
            row[name] = True
        elif text != "":
            row[name] = text.removeprefix("'")  # before what a spreadsheet would take for a formula
    return row


class Description:
    sample = SAMPLE  # None: all of them

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

    def closed(self, schema, close=True, asked={}):
        """The schema of an answer to the question, without references, and such that a member that it does not name is an error."""
        schema = self.resolve(schema)
        made = dict(schema)
        for word in ("allOf", "anyOf", "oneOf"):
            if word in schema:
                made[word] = [self.closed(part, close and word != "allOf", asked) for part in schema[word] if applies(part, asked)]
        if "properties" in schema:
            made["properties"] = {name: self.closed(part, True, asked) for name, part in schema["properties"].items()}
        for word in ("items", "additionalProperties", "propertyNames"):
            if isinstance(schema.get(word), dict):
                made[word] = self.closed(schema[word], True, asked)
        if close and ("properties" in schema or "allOf" in schema) and "additionalProperties" not in schema:
            made["unevaluatedProperties"] = False
        return made

    def members(self, schema):
        """Of a closed schema: those of all its parts, and which are required."""
        members, required = {}, set()
        for part in schema.get("allOf", []) + schema.get("anyOf", []):
            more, needed = self.members(part)
            members.update(more)
            required |= needed
        return {**members, **schema.get("properties", {})}, required | set(schema.get("required", []))

    def find(self, method, target):
        """The operation that the target is one of, and its path; None: there is none, or it is no target."""
        path = urllib.parse.unquote(target.split("?", 1)[0].split("#", 1)[0])
        for pattern, name in self.paths:
            if pattern.fullmatch(path) and (method, name) in self.operations:
                return self.operations[method, name], name
        return None, None

    def asked(self, operation, target):
        """The parameters of a question, with what they are when they are left out."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(target).query, keep_blank_values=True)
        parameters = map(self.resolve, operation.get("parameters", []))
        return {**{p["name"]: p["schema"]["default"] for p in ({**p, "schema": self.resolve(p["schema"])} for p in parameters) if "default" in p["schema"]},
                **{name: values[-1] for name, values in query.items()}}

    def validator(self, at, schema, asked):
        """Made once for all questions that it depends on."""
        key = (at, id(schema), asked.get("format"), "fields" in asked)
        if key not in self.validators:
            self.validators[key] = jsonschema.Draft202012Validator(self.closed(schema, asked=asked), format_checker=FORMATS)
        return self.validators[key]

    def valid(self, at, validator, value):
        faults = list(validator.iter_errors(value))
        # What is wrong inside a member makes the member one that is not known, too.
        fault = jsonschema.exceptions.best_match([f for f in faults if f.validator != "unevaluatedProperties"] or faults)
        assert fault is None, f"{at}: {fault.json_path}: {fault.message[:600]}"

    def some(self, items):
        return items if self.sample is None or len(items) <= self.sample else items[:self.sample - 1] + items[-1:]

    def lines(self, at, media, text, asked):
        *lines, rest = text.split("\n")
        assert rest == "", f"{at}: the last line has an end"
        for line in self.some(lines):
            self.valid(at, self.validator(at, media["x-line"], asked), json.loads(line))

    def rows(self, at, media, text, asked):
        members, required = self.members(self.closed(media["x-row"], asked=asked))
        members = {c: members[c] for c in media.get("x-columns", members) if c in asked.get("fields", c).split(",")}
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        assert head == list(members), f"{at}: the columns are {head}"
        assert text.endswith("\r\n") and {len(row) for row in rows} <= {len(head)}, f"{at}: RFC 4180"
        schema = {"type": "object", "properties": members, "required": sorted(required & set(head)), "additionalProperties": False}
        validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
        for row in self.some(rows):
            self.valid(at, validator, row_of(row, members))

    def body(self, at, content, kind, body, asked={}):
        assert kind in content, f"{at}: {kind} is not described"
        if body is None:
            return
        media = content[kind]
        text = body.decode() if isinstance(body, bytes) and kind in (NDJSON, CSV) else body
        if kind == NDJSON:
            self.lines(at, media, text, asked)
        elif kind == CSV:
            self.rows(at, media, text, asked)
        elif re.fullmatch(r"application/(.*\+)?json", kind):
            value = json.loads(body)
            if isinstance(value, dict) and isinstance(value.get("items"), list):
                value["items"] = self.some(value["items"])
            self.valid(at, self.validator(at + (kind,), media.get("schema", {}), asked), value)

    def check(self, method, target, status, headers, body):
        """`headers` has lower-case names; `body` None: it is not to be had, as of HEAD, or it is encoded."""
        operation, path = self.find("GET" if method == "HEAD" else method, target)
        if operation is None:
            at, responses, asked = (method, "no operation", status), {"default": self.text["components"]["responses"]["Problem"]}, {}
        else:
            at, responses = (method, path, status), operation["responses"]
            self.seen.add(at)
            asked = self.asked(operation, target)
        assert str(status) in responses or status >= 400 and "default" in responses, f"{at}: the status is not described"
        response = self.resolve(responses.get(str(status), responses.get("default")))
        described = {name.lower() for name in response.get("headers", {})}
        assert set(headers) - USUAL <= described, f"{at}: not described: {set(headers) - USUAL - described}"
        for name, header in response.get("headers", {}).items():
            assert not self.resolve(header).get("required") or name.lower() in headers, f"{at}: {name} is missing"
        kind = headers.get("content-type", "").split(";")[0].strip()
        if body or response.get("content") and method != "HEAD":
            assert response.get("content"), f"{at}: no body is described"
            self.body(at, response["content"], kind if "*/*" not in response["content"] else "*/*", body, asked)

    def check_answer(self, answer, body):
        """The same of an answer of requests."""
        self.check(answer.request.method, answer.request.path_url, answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body or None)
