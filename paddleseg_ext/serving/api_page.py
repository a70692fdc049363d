"""The page /docs: what the service answers, from its OpenAPI description, without network.

The pages that FastAPI brings load their scripts from elsewhere.
"""

from typing import Any

from paddleseg_ext.common.html import page

_TEMPLATE = """
<h1>{{ title }}</h1>
<p>{{ info.summary }} Version {{ info.version }}.
For tools: <a href="/openapi.json">openapi.json</a>;
for people: <a href="/">the page</a>.</p>
{% for operation in operations %}
<h2><code>{{ operation.method }} {{ operation.path }}</code></h2>
<p>{{ operation.text }}</p>
{% if operation.needs_key %}<p>Needs <code>Authorization: Bearer KEY</code>.</p>{% endif %}
{% if operation.bodies %}<p>Body: {{ operation.bodies | join(", ") }}</p>{% endif %}
{% if operation.parameters %}
<div class="scroll"><table>
<tr><th>parameter</th><th class="text">in</th><th class="text">values</th>
<th class="text">meaning</th></tr>
{% for one in operation.parameters %}
<tr><td><code>{{ one.name }}</code></td><td class="text">{{ one["in"] }}</td>
<td class="text">{{ one["values"] }}</td><td class="text">{{ one.description }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
<div class="scroll"><table>
<tr><th>status</th><th class="text">answer</th><th class="text">as</th></tr>
{% for one in operation.responses %}
<tr><td>{{ one.status }}</td><td class="text">{{ one.description }}</td>
<td class="text">{{ one.media }}</td></tr>
{% endfor %}
</table></div>
{% endfor %}
"""


def api_page(description: dict[str, Any]) -> str:
    """The HTML of an OpenAPI 3.1 description, such as `FastAPI.openapi()` returns."""
    operations = [
        _operation(path, method, entry)
        for path, methods in description["paths"].items()
        for method, entry in methods.items()
    ]
    info = {"summary": "", **description["info"]}
    return page(f"{info['title']}: HTTP interface", _TEMPLATE, info=info, operations=operations)


def _operation(path: str, method: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": path,
        "method": method.upper(),
        "text": entry.get("description", ""),
        "needs_key": "security" in entry,
        "bodies": list(entry.get("requestBody", {}).get("content", {})),
        "parameters": [
            {
                "name": one["name"],
                "in": one["in"],
                "values": _values(one["schema"]),
                "description": one.get("description", ""),
            }
            for one in entry.get("parameters", [])
        ],
        "responses": [
            {
                "status": status,
                "description": one.get("description", ""),
                "media": ", ".join(one.get("content", {})),
            }
            for status, one in entry["responses"].items()
        ],
    }


def _values(schema: dict[str, Any]) -> str:
    """The values that a parameter may have, and its default."""
    choices = [value for part in schema.get("anyOf", [schema]) for value in part.get("enum", [])]
    text = " | ".join(map(str, choices)) or schema.get("type", "")
    if schema.get("default") is not None:
        text += f" (default: {schema['default']})"
    return text
