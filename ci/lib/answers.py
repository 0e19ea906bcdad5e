#!/usr/bin/python3
"""Makes docs/answers.md: every field of every answer of the API that is JSON, with an example.

    ci/lib/answers.py [--check]

Fields and their meaning come from docs/openapi.json, examples from docs/answers/*.json: what a running weir answered, recorded by
`WEIR_BLESS=1 ci/e2e/run document:`, which holds them against the document as well. With --check nothing is written, and a page that is
not as it would be made is an error.
"""

import json
import pathlib
import sys

DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "answers.md"
HEAD = """# Answers of the API

Every field of every answer of `GET` that is JSON, with an example from a running weir. [api.md](api.md) says who may ask for what, and
[openapi.json](openapi.json) holds the same for programs. Made by `ci/lib/answers.py`.

A field that `may be absent` is left out or null where there is nothing to say. `[]` after a name stands for each entry of a list, `{}` for
each value of an object whose keys are names. Fields are added and never renamed: a client leaves alone what it does not know.
"""


def resolved(document, schema):
    """A schema without references, and whether it may be null."""
    absent = False
    while True:
        if "$ref" in schema:
            found = document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
        elif "anyOf" in schema and {"type": "null"} in schema["anyOf"]:
            rest = [it for it in schema["anyOf"] if it != {"type": "null"}]
            absent = True
            more = {key: value for key, value in schema.items() if key != "anyOf"}
            schema = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **more}
        else:
            return schema, absent


def kind(schema):
    """What a value is, in a word or two; and whether it may be null."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`", False
    if "enum" in schema:
        return ", ".join(f"`{it}`" for it in schema["enum"] if it is not None), None in schema["enum"]
    if "oneOf" in schema:
        return ", ".join(dict.fromkeys(kind(it)[0] for it in schema["oneOf"])), False
    types = schema.get("type", "any")
    types = [types] if isinstance(types, str) else types
    names = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "array": "list", "object": "object", "any": "any"}
    return " or ".join(names[it] for it in types if it != "null"), "null" in types


def rows(document, schema, place):
    """`(field, kind, meaning)` of everything in an object."""
    required = set(schema.get("required", []))
    for name, inner in schema.get("properties", {}).items():
        yield from row(document, inner, f"{place}{name}", name in required)
    for part in schema.get("allOf", []):
        yield from rows(document, resolved(document, part)[0], place)
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        yield from row(document, more, f"{place.removesuffix('.')}{{}}", True)


def row(document, inner, field, is_required):
    """A field with what is in it."""
    meaning = inner.get("description", "")
    inner, absent = resolved(document, inner)
    if inner.get("type") == "array" or (isinstance(inner.get("type"), list) and "array" in inner["type"]):
        item, _ = resolved(document, inner.get("items", {}))
        absent |= "null" in inner["type"]
        what = f"list of {kind(item)[0]}" if "properties" not in item else "list"
        yield field, what, absent or not is_required, meaning or inner.get("description", "")
        yield from rows(document, item, f"{field}[].")
        return
    what, is_null = kind(inner)
    yield field, what, absent or is_null or not is_required, meaning or inner.get("description", "")
    yield from rows(document, inner, f"{field}.")


def cell(text):
    """A text within a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def example_of(path):
    """Where the example of an answer is kept."""
    return DOCS / "answers" / f"{path.removeprefix('/api/v1/')}.json"


def answers(document):
    """`(path, what it says, schema of its answer)`."""
    for path, methods in document["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            yield path, methods["get"]["summary"], resolved(document, schema)[0]


def page():
    """The page's text."""
    document = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    text = HEAD
    for path, summary, schema in answers(document):
        text += f"\n## `GET {path}`\n\n{summary}\n"
        fields = list(rows(document, schema, ""))
        if fields:
            text += "\n| field | is | means |\n|---|---|---|\n"
        for field, what, absent, meaning in fields:
            text += f"| `{field}` | {what}{', may be absent' if absent else ''} | {cell(meaning)} |\n"
        text += f"\n```json\n{example_of(path).read_text(encoding='utf-8').strip()}\n```\n"
    return text


def main():
    """What the top says."""
    made = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != made:
        sys.exit("docs/answers.md is not what ci/lib/answers.py makes: run it")


if __name__ == "__main__":
    main()
