"""What is asked of Prometheus by the dashboards in monitoring/."""

import json
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "monitoring" / "dashboards"


def queries():
    """Each query: the dashboard's file name, the title of the panel or name of the variable, the query."""
    for path in sorted(FOLDER.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield path.name, panel["title"], target["expr"]
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"])
            if found:
                yield path.name, variable["name"], found[1]
