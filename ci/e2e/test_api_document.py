"""What a running weir answers, held against the OpenAPI document that it serves, by an independent validator (python3-jsonschema)."""

import copy
import json
import os
import pathlib

import jsonschema

import health
import lab
import test_health
import test_http_access
from test_http_access import READ, WRITE

ANSWERS = lab.ROOT / "docs" / "answers"
OPENAPI = pathlib.Path(__file__).resolve().parent.parent / "lib" / "openapi-3.1.schema.json"
A, C = lab.REAL_SERVERS["A"], lab.REAL_SERVERS["C"]
VRRP = """
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = 51
priority = 255
addresses = ["10.10.0.150"]

[[mark]]
mark = 7
addresses = ["10.10.0.160"]
ports = [80]

[[announce]]
vips = ["10.10.0.100", "10.10.0.101"]
table = 119
"""




def shortened(value):
    """An answer that a page has room for: two of each list."""
    if isinstance(value, list):
        return [shortened(it) for it in value[:2]]
    if isinstance(value, dict):
        return {name: shortened(it) for name, it in value.items()}
    return value


class Document(test_http_access.Base):
    """Each answer is of a status, of a kind and of the form that the document says, with nothing in it that the document leaves out."""

    def setUp(self):
        self.running = self.secure(test_health.checked('type = "http"') + VRRP)
        self.document = json.loads(self.running.ask("/api/v1/openapi.json", token=READ)[1])
        # A client leaves alone what it does not know; here it would be what nobody described.
        self.closed = copy.deepcopy(self.document)
        for schema in self.closed["components"]["schemas"].values():
            if "properties" in schema and "additionalProperties" not in schema:
                schema["unevaluatedProperties"] = False
        self.seen = set()
        self.has_served = False

    def problems(self, schema, value):
        """What is wrong with a value."""
        resolver = jsonschema.RefResolver.from_schema(self.closed)
        validator = jsonschema.Draft202012Validator(schema, resolver=resolver, format_checker=jsonschema.FormatChecker())
        return [f"{list(it.absolute_path)}: {it.message[:300]}" for it in validator.iter_errors(value)]

    def resolved(self, it):
        """What a reference in the document refers to."""
        while "$ref" in it:
            found = self.closed
            for part in it["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            it = found
        return it

    def ask(self, status, path, *options, token=READ, body=None):
        """Asks and holds the answer against the document."""
        method = "get" if body is None else "post"
        if body is not None:
            file = self.running.folder / "body"
            file.write_text(body if isinstance(body, str) else json.dumps(body))
            options = (*options, "--data-binary", f"@{file}")
        found, answer, _, kind = self.running.whole(path, *options, token=token)
        self.assertEqual(found, status, answer)
        path = path.partition("?")[0]
        self.seen.add((path, found))
        described = self.closed["paths"][path][method]["responses"]
        self.assertIn(str(found), described, f"{method} {path}")
        contents = self.resolved(described[str(found)])["content"]
        self.assertIn(kind, contents, f"{method} {path} {found}")
        if kind == "text/plain":
            return answer
        values = [json.loads(line) for line in (answer.splitlines() if kind == "application/x-ndjson" else [answer])]
        for value in values:
            self.assertEqual(self.problems(contents[kind]["schema"], value), [], f"{method} {path} {found}")
        return values if kind == "application/x-ndjson" else values[0]

    def takes(self, path, value):
        """Whether the document takes a request."""
        content = self.closed["paths"][path]["post"]["requestBody"]["content"]
        return not self.problems(content["application/json"]["schema"], value)

    def edit(self, *edits, status=200, **more):
        """Edits, which the document takes."""
        body = {"edits": list(edits), **more}
        self.assertTrue(self.takes("/api/v1/edits", body), body)
        return self.ask(status, "/api/v1/edits", token=WRITE, body=body)

    def test_the_document_is_one_and_so_are_its_schemas(self):
        jsonschema.Draft202012Validator(json.loads(OPENAPI.read_text())).validate(self.document)
        for name, schema in self.document["components"]["schemas"].items():
            with self.subTest(name):
                jsonschema.Draft202012Validator.check_schema(schema)
        kept = json.loads((lab.ROOT / "docs" / "openapi.json").read_text())
        self.assertEqual(self.document, kept)

    def test_examples_in_docs_are_as_described(self):
        for path, described in self.document["paths"].items():
            content = described.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            if "$ref" not in schema:
                continue
            with self.subTest(path):
                example = ANSWERS / f"{path.removeprefix('/api/v1/')}.json"
                if os.environ.get("WEIR_BLESS"):
                    self.record(path, example)
                self.assertEqual(self.problems(schema, json.loads(example.read_text())), [])

    def record(self, path, example):
        """Writes down what weir answers, for docs."""
        if not self.has_served:
            lab.answers(lab.VIPS["dr"], 9)
            health.wait_until_up(self, "nat", lab.REAL_SERVERS.values(), 20)
            self.has_served = True
        more = f"?protocol=tcp&source={lab.CLIENT}:4711&destination={lab.VIPS['dr']}:80" if path.endswith("/explain") else ""
        answer = json.loads(self.running.ask(path + more, token=READ)[1])
        example.parent.mkdir(exist_ok=True)
        example.write_text(json.dumps(shortened(answer), indent=2, ensure_ascii=False) + "\n")

    def test_each_page_and_each_edit_answers_as_described(self):
        weir = self.running
        lab.answers(lab.VIPS["dr"], 9)
        health.wait_until_up(self, "nat", lab.REAL_SERVERS.values(), 20)
        for path, described in self.document["paths"].items():
            # This one wants to know what of.
            if "get" in described and path != "/api/v1/explain":
                self.assertTrue(self.ask(200, path), path)
        ends = f"source={lab.CLIENT}:4711&destination={lab.VIPS['dr']}:80"
        self.assertEqual(self.ask(200, f"/api/v1/explain?protocol=tcp&{ends}")["verdicts"][0]["connection"], "new")
        self.assertEqual(len(self.ask(200, "/api/v1/connections?limit=2")["connections"]), 2)
        self.assertEqual(len(self.ask(200, "/api/v1/connections?stream=yes&virtual_server=dr&templates=yes")), 9)
        self.ask(200, "/api/v1/virtual_servers?name=dr&templates=count")
        self.assertEqual(len(self.ask(200, "/api/v1/vrrp")["instances"]), 1)
        for path in ("connections?limit=0", "connections?state=FOO", "explain?protocol=tcp"):
            self.ask(400, f"/api/v1/{path}")
        for path, described in self.document["paths"].items():
            if "get" in described and path.startswith("/api/v1/"):
                self.ask(400, f"{path}?nobody_knows=this")
        for path, described in self.document["paths"].items():
            with self.subTest(path):
                post = {"body": {}} if "post" in described else {}
                if described[next(iter(described))].get("security") == []:
                    self.ask(200, path, token=None)
                    continue
                self.ask(401, path, token=None, **post)
                self.ask(421, path, "-H", "Host: rebound.example", **post)
                if post:
                    self.ask(403, path, **post)
        web, new = {"name": "dr"}, {"protocol": "tcp", "address": "10.10.0.170", "port": 80}
        server, socket = {"address": A, "port": 80}, {"address": C, "port": 80}
        made = self.edit(
            {"op": "add_virtual_server", "virtual_server": {"address": new["address"], "port": 80, "forwarding": "nat"}},
            {"op": "add_virtual_server", "virtual_server": {"mark": 7, "forwarding": "nat"}},
            {"op": "set_virtual_server", "virtual_server": new, "keys": {"persistence_timeout": 60, "scheduler": None}},
            {"op": "add_real_server", "virtual_server": new, "real_server": {**server, "weight": 3}},
            {"op": "add_real_server", "virtual_server": {"mark": 7, "family": "ipv4"}, "real_server": server},
            {"op": "set_real_server", "virtual_server": web, "real_server": socket, "keys": {"weight": 0}},
            {"op": "remove_real_server", "virtual_server": web, "real_server": socket},
            {"op": "zero", "virtual_server": web}, {"op": "zero"},
            {"op": "set_timeouts", "udp": 17}, {"op": "set_timeouts", "tcp_established": 800, "tcp_fin_wait": None},
            {"op": "remove_virtual_server", "virtual_server": new})
        self.assertEqual(made["applied"], 12)
        listed = self.ask(200, "/api/v1/virtual_servers")["virtual_servers"]
        self.assertIn(7, [it.get("mark") for it in listed])
        self.ask(200, "/api/v1/desired")
        for edit, kind in ((({"op": "add_real_server", "virtual_server": web, "real_server": server}), "exists"),
                           ({"op": "zero", "virtual_server": {"name": "none"}}, "unknown_virtual_server"),
                           ({"op": "remove_real_server", "virtual_server": web, "real_server": socket}, "unknown_real_server"),
                           ({"op": "set_virtual_server", "virtual_server": web, "keys": {"scheduler": "wrrr"}}, "invalid")):
            error = self.edit({"op": "zero"}, edit, status=422)["error"]
            self.assertEqual((error["kind"], error["edit"]), (kind, 1))
        reload = "/api/v1/reload"
        weir.file.write_text(weir.text.replace('scheduler = "wrr"', 'scheduler = "rr"', 1))
        for body in ({"dry_run": True, "keep_edits": True}, {"dry_run": True}, {}):
            self.assertTrue(self.takes(reload, body))
            self.ask(200, reload, token=WRITE, body=body)
        for text, kind in (("nonsense", "invalid"), (weir.text.replace("65_536", "32_768"), "needs_restart")):
            weir.file.write_text(text)
            self.assertEqual(self.ask(422, reload, token=WRITE, body={"dry_run": True})["error"]["kind"], kind)
        self.edit({"op": "clear"}, dry_run=True)
        self.edit({"op": "clear"})
        self.assertEqual(self.ask(200, "/api/v1/virtual_servers")["virtual_servers"], [])

    def test_what_is_malformed_for_weir_is_so_for_the_document(self):
        edit = {"op": "remove_virtual_server", "virtual_server": {"name": "dr"}}
        for body in ({}, {"edits": {}}, {"edits": [], "more": 1}, {"edits": [], "dry_run": "yes"}, {"edits": [{"op": "explode"}]},
                     {"edits": [{**edit, "more": 1}]}, {"edits": [{"op": "remove_virtual_server"}]},
                     {"edits": [{**edit, "virtual_server": {"nme": "dr"}}]}, {"edits": [{**edit, "virtual_server": {"name": "dr", "mark": 1}}]},
                     {"edits": [{"op": "set_timeouts", "udp": -1}]},
                     {"edits": [{"op": "remove_real_server", "virtual_server": {"name": "dr"}, "real_server": {"address": A, "port": 65536}}]}):
            with self.subTest(str(body)):
                self.assertFalse(self.takes("/api/v1/edits", body))
                self.assertEqual(self.ask(400, "/api/v1/edits", token=WRITE, body=body)["error"]["kind"], "malformed")
        self.assertFalse(self.takes("/api/v1/reload", {"dry": True}))
        self.ask(400, "/api/v1/reload", token=WRITE, body={"dry": True})
        self.ask(413, "/api/v1/edits", token=WRITE, body=" " * (5 << 20))

    def http(self, path):
        """As `health` asks."""
        return self.running.http(path, "-H", f"Authorization: Bearer {READ}")
