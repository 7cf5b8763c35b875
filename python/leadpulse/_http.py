"""The API of a running worker."""

import json
import urllib.error
import urllib.parse
import urllib.request

from ._program import LeadpulseError

PAGE = 1000


def scores(url, task=None, token=None, **filters):
    """The ranking of a running worker as an Arrow table, a row for each entity with all fields of its record.

    Filters are those of /api/v1/scores: `band="hot"`, `owner="rep-1"`, `sort="velocity"`. An entity that crosses the end of a page between two
    requests may be missing or stand twice.
    """
    import pyarrow

    rows = []
    asked = {"view": "full", "limit": PAGE, **filters}
    if task is not None:
        asked["task"] = task
    while True:
        page = _get(f"{url.rstrip('/')}/api/v1/scores?{urllib.parse.urlencode(asked)}", token)
        rows += page["scores"]
        if not page.get("next_cursor"):
            return pyarrow.Table.from_pylist(rows)
        asked["cursor"] = page["next_cursor"]


def _get(url, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        body = refusal.read().decode("utf-8", "replace")
        try:
            problem = json.loads(body)
            words = f"{problem['detail']}; {problem['hint']}"
        except (ValueError, KeyError):
            words = f"{url} answers {refusal.code}"
        raise LeadpulseError(words, body) from None
    except urllib.error.URLError as fault:
        raise LeadpulseError(f"{url} does not answer ({fault.reason}); is the worker running there?", "") from None
